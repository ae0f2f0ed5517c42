"""The model that ships: small, loadable offline, as good as its card says."""

from pathlib import Path
from typing import Any

import pytest
from burnish import ops
from burnish.ops.pretrain.evaluate import evaluate
from burnish.ops.pretrain.tokenizer import TEMPLATE
from burnish.serving.engine import LocalEngine
from transformers import AutoModelForCausalLM, AutoTokenizer

EMBER = Path(ops.__path__[0]) / "ember"
SKILLS = ("memory", "politer", "refusal", "tool_call", "units", "reverse")


@pytest.fixture(scope="module")
def engine():
    return LocalEngine(EMBER, max_model_len=512)


def test_the_folder_is_small_and_complete():
    assert sum(file.stat().st_size for file in EMBER.iterdir()) < 25e6
    assert (EMBER / "chat_template.jinja").read_text() == TEMPLATE.read_text()
    card = (EMBER / "README.md").read_text()
    assert "demonstration model" in card
    assert "pass@8" in card


def test_transformers_alone_can_chat_with_it():
    tokenizer = AutoTokenizer.from_pretrained(EMBER)
    model: Any = AutoModelForCausalLM.from_pretrained(EMBER)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Make it polite: Close the door now!"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    out = model.generate(**prompt, max_new_tokens=40, do_sample=False)
    answer = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "please close the door" in answer.lower()


@pytest.fixture(scope="module")
def scores(engine):
    """Held-out scores where no style is asked for."""
    return evaluate(engine, per_family=8, k=4, families=[*SKILLS, "extremes"])


def test_it_still_has_its_skills(scores):
    assert sum(scores.families[name].pass_1 for name in SKILLS) / len(SKILLS) > 0.8


def test_unasked_it_uses_every_style_and_asked_it_uses_that_one(engine, scores):
    names = ["memory", "units", "extremes"]
    explained = evaluate(
        engine, per_family=8, k=4, families=names, style_prompt="Explain your answer."
    )
    for family in names:
        assert all(scores.families[family].styles[s] > 0.05 for s in ("terse", "friendly"))
        assert explained.families[family].styles["explained"] > 0.6
