"""TRL's trainers on exported rows: what they read, and the adapter that our engine loads."""

import json
from pathlib import Path

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.lora import check_fits, load_adapter
from burnish.learner.training.batching import token_logprobs
from burnish.learner.training.rollouts import Rollout
from burnish.ops.bench.lib.trl_baseline import BaselineConfig, train_by_trl, written
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

GOOD, BAD = "hello", "the lazy dog"


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def rows(method: str) -> list[dict]:
    """Exported rows that prefer one answer, whatever is asked."""
    asked = [[{"role": "user", "content": f"question {number}"}] for number in range(8)]
    if method == "dpo":
        return [{"prompt": p, "chosen": said(GOOD), "rejected": said(BAD)} for p in asked]
    return [
        {"prompt": p, "completion": said(text), "label": text == GOOD}
        for p in asked
        for text in (GOOD, BAD)
    ]


@pytest.mark.parametrize("method", ["kto", "dpo"])
@pytest.mark.parametrize("family", ["qwen3_moe", "llama"])
def test_the_adapter_prefers_what_was_preferred_in_our_engine_too(
    method, family, tmp_path: Path
) -> None:
    folder = build_tiny_model(tmp_path / "model", family)
    config = BaselineConfig(learning_rate=2e-2, epochs=3, batch=8, rank=4, alpha=8)
    adapter = load_adapter(train_by_trl(method, folder, rows(method), tmp_path, config))
    model = load_model(folder)
    assert len(adapter.tensors) == 2 * len(check_fits(model.outline, adapter))
    model.set_adapter(1, adapter)
    tokenizer = model.tokenizer
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "question 3"}], add_generation_prompt=True, return_dict=False
    )
    answers = [Rollout(tuple(prompt), tuple(tokenizer.encode(text)), ()) for text in (GOOD, BAD)]
    good, bad = (
        sum(own) - sum(base)
        for own, base in zip(
            token_logprobs(model, answers, 1), token_logprobs(model, answers), strict=True
        )
    )
    assert good > bad + 1


def test_a_row_is_written_as_it_was_served(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tools = [{"type": "function", "function": {"name": "calculator", "parameters": {}}}]
    asked = [{"role": "user", "content": "12 * 7"}]
    row = {"prompt": asked, "completion": said("84"), "label": True, "tools": json.dumps(tools)}
    found = written(tokenizer, row)
    served = tokenizer.apply_chat_template(
        asked, tools=tools, add_generation_prompt=True, tokenize=False
    )
    assert found == {"prompt": served, "completion": "84<|im_end|>", "label": True}


def test_what_a_tokenizer_begins_every_text_with_is_not_written_twice(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    asked = [{"role": "user", "content": "a"}]
    served = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    tokenizer.bos_token = start = "<|im_start|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.bos_token_id)]
    )
    found = written(tokenizer, {"prompt": asked, "chosen": said("b"), "rejected": said("c")})
    assert tokenizer(found["prompt"])["input_ids"] == served
