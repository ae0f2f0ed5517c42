"""Answers that keep to a grammar, whatever the model would rather say."""

import asyncio
import json
import re
import threading
from typing import Any

import pytest
from burnish.serving.engine import BadGrammar, Completion, LocalEngine, json_grammar

from .conftest import Ask

LARK = 'start: "yes" | "no" | /[0-9]{3}/'


def test_the_answer_matches_and_ends_by_itself(engine: LocalEngine, ask: Ask) -> None:
    requests = [ask(i, max_tokens=20, grammar=LARK, ignore_eos=False) for i in range(8)]
    for answer in engine.generate_batch(requests):
        assert re.fullmatch(r"yes|no|[0-9]{3}", answer.text)
        assert answer.finish_reason == "stop"


def test_json_is_spaced_as_models_write_it(engine: LocalEngine, ask: Ask) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    request = ask(1, max_tokens=60, grammar=json_grammar(schema), ignore_eos=False)
    (answer,) = engine.generate_batch([request])
    assert answer.text == json.dumps(json.loads(answer.text))


NESTED = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name", "tags", "size", "kind"],
}


@pytest.mark.parametrize("limit", [60, 70, 90, 200])
def test_json_ends_by_its_limit(engine: LocalEngine, ask: Ask, limit: int) -> None:
    grammar = json_grammar(NESTED)
    options: Any = {"max_tokens": limit, "grammar": grammar, "ignore_eos": False}
    answers = engine.generate_batch([ask(i, **options) for i in range(8)])
    for answer in answers:
        assert set(json.loads(answer.text)) >= set(NESTED["required"]), answer.text
        assert answer.finish_reason == "stop"
    cut = engine.generate_batch([ask(i, **options, close_at_limit=False) for i in range(8)])
    assert any(answer.finish_reason == "length" for answer in cut)
    for closed, whole in zip(answers, cut, strict=True):  # the model's own, as long as may be
        same = sum(a == b for a, b in zip(closed.token_ids, whole.token_ids, strict=False))
        assert same >= min(len(whole.token_ids), limit - 60)


def test_text_that_may_end_anywhere_is_cut_by_its_limit(engine: LocalEngine, ask: Ask) -> None:
    grammar = "start: /(.|\\n)*/"
    options: Any = {"max_tokens": 12, "grammar": grammar, "ignore_eos": False}
    for answer in engine.generate_batch([ask(i, **options) for i in range(4)]):
        assert answer.finish_reason == "length" or len(answer.token_ids) < 12


def test_neighbours_draw_what_they_would_have_drawn(engine: LocalEngine, ask: Ask) -> None:
    alone = engine.generate_batch([ask(1), ask(2)])
    held = ask(3, grammar=LARK, ignore_eos=False)
    among = engine.generate_batch([ask(1), held, ask(2)])
    assert [among[0].token_ids, among[2].token_ids] == [a.token_ids for a in alone]


def test_a_preempted_answer_goes_on_in_the_grammar(loaded, ask: Ask) -> None:
    tight = LocalEngine(loaded, max_running=4, num_blocks=6)
    digits = "start: /[0-9]{40}/"
    requests = [
        ask(i, length=10, max_tokens=60, grammar=digits, ignore_eos=False) for i in range(4)
    ]
    answers = tight.generate_batch(requests)
    assert tight.stats().preempted_total > 0
    assert all(re.fullmatch(r"[0-9]{40}", answer.text) for answer in answers)


@pytest.mark.parametrize(
    "grammar", ["start: nowhere", "{", "%json", json_grammar({"type": "nonsense"})]
)
def test_a_bad_grammar_is_refused_before_anything_runs(
    engine: LocalEngine, ask: Ask, grammar: str
) -> None:
    with pytest.raises(BadGrammar):
        engine.generate_batch([ask(1), ask(2, grammar=grammar)])
    assert engine.stats().waiting == 0


def an_object(size: int, required: bool) -> str:
    names = [f"property{at}" for at in range(size)]
    return json_grammar(
        {
            "type": "object",
            "properties": {name: {"type": "string"} for name in names},
            "required": names if required else [],
            "additionalProperties": False,
        }
    )


@pytest.fixture
def compiled_on(running: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The thread of each compilation."""
    compile_now, threads = running._core.grammars._compile, []

    def counted(grammar: str) -> Any:
        threads.append(threading.current_thread().name)
        return compile_now(grammar)

    monkeypatch.setattr(running._core.grammars, "_compile", counted)
    return threads


async def test_choices_share_a_grammar_that_is_compiled_beside_the_others(
    running: LocalEngine, ask: Ask, compiled_on: list[str]
) -> None:
    """128 of them over 2,000 properties: other answers go on meanwhile, and the event loop too."""
    grammar = an_object(2000, required=True)

    async def answer(at: int, **params: Any) -> Completion:
        return Completion.join([d async for d in running.generate(ask(at, **params))])

    held = [
        asyncio.create_task(answer(at, grammar=grammar, max_tokens=6, ignore_eos=False))
        for at in range(128)
    ]
    longest = 0.0
    clock = asyncio.get_running_loop().time
    other = asyncio.create_task(answer(1, max_tokens=200))
    while not compiled_on or not other.done():
        before = clock()
        await asyncio.sleep(0.001)
        longest = max(longest, clock() - before)
    answers = await asyncio.gather(*held)
    assert {one.text[:6] for one in answers} == {'{"prop'}
    assert len(compiled_on) == 1
    assert compiled_on[0].startswith("grammars")
    assert longest < 5.0  # compiling 128 times took a minute


async def test_a_grammar_that_takes_too_long_is_refused(running: LocalEngine, ask: Ask) -> None:
    for grammar, why in (
        (an_object(10_000, required=True), "bytes"),
        (an_object(4000, required=False), "ms a token"),
    ):
        with pytest.raises(BadGrammar, match=why):
            async for _ in running.generate(ask(1, grammar=grammar)):
                pass
    assert running.stats().requests_total == 0


async def test_whoever_waits_for_a_compilation_may_leave(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_now, go_on = running._core.grammars._compile, threading.Event()

    def slow(grammar: str) -> Any:
        assert go_on.wait(30)
        return compile_now(grammar)

    monkeypatch.setattr(running._core.grammars, "_compile", slow)

    async def answer() -> Completion:
        held = ask(1, max_tokens=20, grammar=LARK, ignore_eos=False)
        return Completion.join([delta async for delta in running.generate(held)])

    first, second = asyncio.create_task(answer()), asyncio.create_task(answer())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert re.fullmatch(r"yes|no|[0-9]{3}", (await second).text)
