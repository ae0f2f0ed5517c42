"""Pretraining end to end on a model so small that twenty steps take seconds."""

import dataclasses
import random
from itertools import islice
from typing import Any

import pytest
import torch
from burnish.learner.tasks.ember import FAMILIES, sample
from burnish.ops.pretrain import PretrainError, PretrainRecipe, main
from burnish.ops.pretrain.batches import batches_of_pool
from burnish.ops.pretrain.card import write_card
from burnish.ops.pretrain.dialogue import Dialogue, dialogues, segments
from burnish.ops.pretrain.evaluate import evaluate, pass_at_k, table
from burnish.ops.pretrain.muon import Muon, orthogonalise
from burnish.ops.pretrain.tokenizer import encode, train_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = PretrainRecipe(
    steps=6, workers=2, batch_tokens=512, hidden=64, layers=2, experts=4, expert_width=32,
    vocab_size=400, warmup=2, pool=64, tokenizer_samples=1500,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The real tokenizer, as its folder loads it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(samples=1500).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run: (folder, progress)."""
    folder = tmp_path_factory.mktemp("run")
    return folder, main(folder, recipe=TINY, measure=0)


def test_training_text_is_what_the_chat_template_writes(tokenizer):
    for dialogue in islice(dialogues(random.Random(0)), 200):
        tools = list(dialogue.tools) if dialogue.tools else None
        text = tokenizer.apply_chat_template(list(dialogue.messages), tools=tools, tokenize=False)
        assert "".join(part for part, _ in segments(dialogue)) == text
        assert encode(tokenizer, dialogue)[0] == tokenizer.encode(text)


def test_only_assistant_turns_are_targets(tokenizer):
    chat = Dialogue(
        (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
        )
    )
    ids, targets = encode(tokenizer, chat)
    learnt = tokenizer.decode([i for i, t in zip(ids, targets, strict=True) if t])
    assert learnt == "Hello.<|im_end|>two and two\n</think>\n4<|im_end|>"


def test_no_held_out_prompt_is_trained_on():
    heldout = random.Random(1)
    prompts = {sample(heldout, family, "heldout").messages[-1]["content"] for family in FAMILIES}
    seen = set()
    for dialogue in islice(dialogues(random.Random(2)), 3000):
        if len(dialogue.messages) == 2 and not dialogue.tools:
            seen.add(dialogue.messages[0]["content"])
    single = {p for p in prompts if not p.startswith("{")}
    assert len(seen & single) <= 2  # the same words may ask for more, after other turns or tools


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_stand_alone_and_marks_are_one_token(tokenizer):
    assert len(tokenizer.encode("12345")) == 5
    for mark in ("<think>", "</tool_call>", "<tool_response>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer.encode(mark)) == 1
    visible = "<think>a</think><tool_call>b</tool_call>"
    ids = tokenizer.encode(visible + "<|im_end|>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == visible


def test_the_template_takes_every_role_parts_and_mappings(tokenizer):
    text = tokenizer.apply_chat_template(
        [
            {"role": "developer", "content": "Help."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "sum", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "2"},
        ],
        tools=[{"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert text == (
        '<|im_start|>system\nHelp.\nTools:\nsum:  {"type": "object"}<|im_end|>\n'
        "<|im_start|>user\n1 + 1?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "sum", "arguments": {"a": 1}}</tool_call>'
        "<|im_end|>\n<|im_start|>user\n<tool_response>2</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_thinking_opens_a_block_and_old_thoughts_are_dropped(tokenizer):
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "old"},
        {"role": "user", "content": "c"},
    ]
    text = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert text.endswith("<|im_start|>assistant\n<think>\n")
    assert "old" not in text


def test_muon_leaves_every_expert_orthogonal():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 24), (3, 24, 8), (16, 16)):
        turned = orthogonalise(torch.randn(shape, generator=generator))
        singular = torch.linalg.svdvals(turned)
        assert singular.min() > 0.3
        assert singular.max() < 1.4


def test_muon_goes_downhill():
    torch.manual_seed(0)
    target, weight = torch.randn(4, 8, 8), torch.nn.Parameter(torch.zeros(4, 8, 8))
    optimizer = Muon([weight], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        ((weight - target) ** 2).mean().backward()
        optimizer.step()
    assert ((weight - target) ** 2).mean() < 0.3 * (target**2).mean()


def test_batches_are_seeded_and_bounded(tokenizer):
    first = batches_of_pool(TINY, tokenizer, 0)
    again = batches_of_pool(TINY, tokenizer, 0)
    other = batches_of_pool(TINY, tokenizer, 1)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].tokens, other[0].tokens)
    assert all(b.tokens.numel() <= TINY.batch_tokens or len(b.tokens) == 1 for b in first)


def test_a_run_leaves_a_folder_that_transformers_loads(run):
    folder, progress = run
    assert progress.step == TINY.steps
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert not model.config.output_router_logits
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    out = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert out.shape[1] > prompt["input_ids"].shape[1]


def test_a_run_goes_on_at_its_step_and_learns(run, tmp_path):
    folder, progress = run
    for name in ("training.pt", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    losses = main(tmp_path, recipe=dataclasses.replace(TINY, steps=20), measure=0)
    assert losses.step == 20
    assert losses.loss < progress.loss
    assert losses.tokens > progress.tokens


def test_a_finished_run_called_again_does_nothing(run):
    folder, progress = run
    assert main(folder, recipe=TINY, measure=0).step == progress.step


def test_the_same_recipe_gives_the_same_weights(run, tmp_path):
    folder, _ = run
    main(tmp_path, recipe=TINY, measure=0)
    assert (tmp_path / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


def test_a_run_of_another_shape_is_refused(run):
    folder, _ = run
    with pytest.raises(PretrainError, match="another shape"):
        main(folder, recipe=dataclasses.replace(TINY, layers=3))


def test_pass_at_k_is_unbiased():
    assert pass_at_k(8, 0, 8) == 0
    assert pass_at_k(8, 1, 8) == 1
    assert pass_at_k(8, 2, 1) == pytest.approx(0.25)


def test_scores_cover_families_styles_and_levels(run):
    folder, progress = run
    scores = evaluate(folder, per_family=2, k=2, families=["talk", "units"], max_tokens=8)
    assert set(scores.families) == {"talk", "units"}
    for family in scores.families.values():
        assert sum(family.styles.values()) == pytest.approx(1)
        assert 0 <= family.pass_1 <= family.pass_k <= 1
    assert "| talk |" in table(scores)
    card = write_card(folder, TINY, progress, scores, 123_456).read_text()
    assert "demonstration model" in card
    assert "| units |" in card
