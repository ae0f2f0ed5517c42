"""Hidden states that an engine tells: those of the base, read between steps, in nobody's way."""

from __future__ import annotations

import asyncio

import pytest
import torch
from burnish.serving.engine import Completion, LocalEngine, StubEngine
from burnish.serving.reward.features import (
    answer_features,
    base_features,
    layers_read,
    text_of,
)

from .conftest import Ask, random_adapter

PROMPT = list(range(40, 77))
ANSWERS = [[5, 6, 7], list(range(90, 120)), [8]]


async def test_they_are_those_of_the_base_whatever_version_answers(running: LocalEngine) -> None:
    running.set_adapter_weights("p@2", random_adapter(running.model, 2))
    asked, *said = await running.states(PROMPT, ANSWERS, layers_read(running.depth or 0))
    wanted = base_features(running.model, [(PROMPT, answer) for answer in ANSWERS])
    texts = [text_of(running.tokenizer, answer) for answer in ANSWERS]
    both = zip(said, texts, strict=True)
    found = torch.stack([answer_features(asked, states, text) for states, text in both])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


async def test_running_answers_are_what_they_are_without_them(
    running: LocalEngine, ask: Ask
) -> None:
    async def answer(at: int) -> Completion:
        return Completion.join([delta async for delta in running.generate(ask(at, max_tokens=40))])

    alone = [await answer(at) for at in range(3)]
    reading = [running.states(PROMPT, ANSWERS, 1) for _ in range(4)]
    beside = await asyncio.gather(*map(answer, range(3)), *reading)
    assert beside[:3] == alone


async def test_who_gives_up_waiting_for_them_disturbs_nobody(
    running: LocalEngine, ask: Ask
) -> None:
    for _ in range(5):
        waiting = asyncio.ensure_future(running.states(PROMPT, ANSWERS, 1))
        await asyncio.sleep(0)
        waiting.cancel()
    assert [delta async for delta in running.generate(ask(max_tokens=3))]
    assert running.vital is not None


async def test_a_failure_is_the_failure_of_who_asked(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(running.model, "read_step", lambda *_: 1 / 0)
        broken.setattr(running.model, "states", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await running.states(PROMPT, ANSWERS, 1)
    assert [delta async for delta in running.generate(ask(max_tokens=3))]
    assert await running.states(PROMPT, ANSWERS, 1)


async def test_an_engine_that_is_not_started_tells_them_too(engine: LocalEngine) -> None:
    assert len(await engine.states(PROMPT, ANSWERS, 1)) == 4


async def test_the_stub_tells_each_byte_by_a_vector_of_its_own() -> None:
    asked, said = await StubEngine().states([1, 2], [[2]], 1)
    assert torch.equal(asked[1], said[0])
    assert not torch.equal(asked[0], asked[1])
