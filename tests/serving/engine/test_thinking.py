"""Thinking ends where its budget does, a grammar begins where thinking ends, and no token is lost."""

import json

import pytest
import torch
from burnish.serving.engine import LocalEngine, Request, Thinking, json_grammar
from burnish.serving.engine.logits_processor import LogitsProcessor, ThinkingBudget
from hypothesis import given
from hypothesis import strategies as st

from .conftest import Ask

SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"],
          "additionalProperties": False}  # fmt: skip


@pytest.fixture
def tags(engine: LocalEngine) -> tuple[int, int, tuple[int, ...]]:
    begin, end = engine.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    newline = engine.tokenizer.encode("\n")
    return begin, end, (*newline, end, *newline)


def thinking(tags: tuple[int, int, tuple[int, ...]], **more) -> Thinking:
    begin, end, close = tags
    return Thinking(open=begin, end=(end,), close=close, **{"opened": True, **more})


@pytest.mark.parametrize("budget", [0, 1, 7, 12])
def test_spent_thinking_is_closed_and_the_answer_begins(
    engine: LocalEngine, ask: Ask, tags, budget: int
) -> None:
    _, end, close = tags
    never = {end: -100.0}  # left to itself it would think for ever
    requests = [
        ask(i, max_tokens=30, logit_bias=never, thinking=thinking(tags, budget=budget))
        for i in range(4)
    ]
    for answer in engine.generate_batch(requests):
        assert answer.token_ids[budget : budget + len(close)] == close
        assert end not in answer.token_ids[:budget]
        assert answer.processed_logprobs[budget : budget + len(close)] == (0.0,) * len(close)
        assert all(value < 0 for value in answer.logprobs)
        assert len(answer.token_ids) == 30


def test_up_to_there_nothing_is_drawn_otherwise(engine: LocalEngine, ask: Ask, tags) -> None:
    """Alone in bursts or among others, and behind thinking that ended by itself."""
    free = engine.generate_batch([ask(i, max_tokens=40) for i in range(6)])
    bound = engine.generate_batch(
        [ask(i, max_tokens=40, thinking=thinking(tags, budget=17)) for i in range(6)]
    )
    assert [a.token_ids[:17] for a in free] == [a.token_ids[:17] for a in bound]
    _, end, _ = tags
    early = ask(1, max_tokens=40, logit_bias={end: 100.0}, thinking=thinking(tags, budget=17))
    answer = engine.generate_batch([early])[0]
    assert set(answer.token_ids) == {end}  # its own doing: nothing is forced behind it


def test_an_answer_that_does_not_think_is_not_stopped_from_answering(
    engine: LocalEngine, ask: Ask, tags
) -> None:
    begin, end, close = tags
    begun = thinking(tags, opened=False, budget=5)
    plain, bound = engine.generate_batch([ask(1), ask(1, thinking=begun)])
    assert plain.token_ids == bound.token_ids
    opening = ask(1, thinking=begun, logit_bias={begin: 100.0, end: -100.0}, max_tokens=20)
    opened = engine.generate_batch([opening])[0].token_ids
    assert opened[:5] == (begin,) * 5  # the tag counts, too
    assert opened[5 : 5 + len(close)] == close


@pytest.mark.parametrize("budget", [None, 6])
def test_a_grammar_begins_where_the_thinking_ends(
    engine: LocalEngine, ask: Ask, tags, budget: int | None
) -> None:
    _, end, _ = tags
    held = {"grammar": json_grammar(SCHEMA), "ignore_eos": False, "max_tokens": 200}
    nudge = {} if budget else {"logit_bias": {end: 4.0}}
    requests = [ask(i, **held, **nudge, thinking=thinking(tags, budget=budget)) for i in range(6)]
    for answer in engine.generate_batch(requests):
        at = answer.token_ids.index(end)
        assert budget is None or at <= budget + 1
        said = answer.text.rpartition("</think>")[2]
        assert json.loads(said)["a"] in (1, 2)
        assert answer.finish_reason == "stop"


def test_a_grammar_without_thinking_begins_at_once(engine: LocalEngine, ask: Ask, tags) -> None:
    begin, _, _ = tags
    held = ask(
        1,
        max_tokens=60,
        grammar=json_grammar(SCHEMA),
        ignore_eos=False,
        logit_bias={begin: -100.0},
        thinking=thinking(tags, opened=False),
    )
    assert json.loads(engine.generate_batch([held])[0].text)["a"] in (1, 2)


def test_a_preempted_answer_goes_on_thinking_where_it_was(loaded, ask: Ask, tags) -> None:
    roomy, tight = (
        LocalEngine(loaded, max_running=6),
        LocalEngine(loaded, max_running=6, num_blocks=9),
    )
    requests: list[Request] = [
        ask(i, max_tokens=60, ignore_eos=True, thinking=thinking(tags, budget=20 + i))
        for i in range(6)
    ]
    expected = [a.token_ids for a in roomy.generate_batch(requests)]
    assert [a.token_ids for a in tight.generate_batch(requests)] == expected
    assert tight.stats().preempted_total > 0


class Digits:
    """A grammar of one's own: tokens 1 and 2 only."""

    def allowed(self) -> torch.Tensor:
        return torch.tensor([False, True, True, *[False] * 5])

    def accept(self, token: int) -> None:
        assert token in (1, 2)

    def way_out(self, most: int) -> list[int] | None:
        return None


@given(
    choices=st.lists(st.integers(0, 7), max_size=30),
    budget=st.none() | st.integers(0, 9),
    opened=st.booleans(),
    grammar=st.booleans(),
)
def test_the_logits_processor_always_allows_a_next_token(choices, budget, opened, grammar) -> None:
    """Whatever is drawn: something may come next, thinking keeps to its budget, and the count says
    how much of it was thinking."""
    what = Thinking(open=6, end=(7,), close=(0, 7, 0), opened=opened, budget=budget)
    ends = torch.zeros(8, dtype=torch.bool)
    ends[5] = True
    processor, budget_state = (
        LogitsProcessor(8, ends, what, Digits() if grammar else None),
        ThinkingBudget(what),
    )
    taken = []
    for choice in choices:
        allowed = processor.allowed().nonzero().flatten().tolist()
        assert allowed
        assert processor.free_draws >= 1
        token = allowed[choice % len(allowed)] if processor.constrains else choice
        processor.accept(token)
        budget_state.accept(token)
        taken.append(token)
    inside = opened or taken[:1] == [6]
    if inside and budget is not None and len(taken) >= max(budget, 1) + 3:
        assert 7 in taken[: max(budget, 1) + 3]
    expected = (taken.index(7) + 1 if 7 in taken else len(taken)) if inside else 0
    if not opened and inside and 7 in taken:
        expected = taken.index(7, 1) + 1
    assert budget_state.tokens == expected
