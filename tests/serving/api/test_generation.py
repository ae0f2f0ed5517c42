"""What a reader of a generation is given: all that has come, joined, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from burnish.serving.api.generation import Generation, GenerationRequest
from burnish.serving.engine import Delta, Engine, EngineError, Request, SamplingParams

PROMPT = (1, 2)


class Scripted:
    """An engine whose answers are given: deltas, pauses until the reader has had its turn (None),
    and what the answer fails with."""

    def __init__(self, *steps: Delta | Exception | None) -> None:
        self._steps = steps
        self._pause: asyncio.Task[None] | None = None

    async def generate(self, request: Request) -> AsyncIterator[Delta]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if step is None:
                self._pause = self._pause or asyncio.create_task(asyncio.sleep(0.05))
                await asyncio.shield(self._pause)  # all choices go on at once
            else:
                yield step


class Lease:
    adapter = None

    def release(self) -> None:
        pass


def generation(*steps: Delta | Exception | None, n: int = 1) -> Generation:
    request = GenerationRequest("r", 0, "default", "local", PROMPT, SamplingParams(), n)
    engine = cast(Engine, Scripted(*steps))
    return Generation(engine, request, cast(Any, Lease()), [None] * n)


def delta(token: int, finish: str | None = None) -> Delta:
    return Delta(f"t{token} ", (token,), (-0.5,), (-0.25,), finish_reason=finish)


async def test_a_reader_that_is_behind_gets_one_delta_of_all_that_has_come() -> None:
    made = generation(delta(1), delta(2), None, delta(3), delta(4, "stop"))
    read = [new async for new in made.events()]
    told = [[(each.text, each.token_ids, each.logprobs) for _, each, _ in new] for new in read]
    assert told == [[("t1 t2 ", (1, 2), (-0.5, -0.5))], [("t3 t4 ", (3, 4), (-0.5, -0.5))]]
    assert made.usage()["completion_tokens"] == 4


async def test_choices_of_one_step_are_told_together() -> None:
    made = generation(delta(1), None, delta(2, "stop"), n=2)
    read = [[choice.index for choice, _, _ in new] async for new in made.events()]
    assert read == [[0, 1], [0, 1]]


async def test_what_came_before_an_error_is_told_first() -> None:
    events = generation(delta(1), EngineError("the step failed")).events()
    assert [each.text for _, each, _ in await anext(events)] == ["t1 "]
    with pytest.raises(EngineError, match="the step failed"):
        await anext(events)


async def test_an_answer_that_stops_without_a_finish_is_an_error() -> None:
    with pytest.raises(EngineError, match="in the middle"):
        await generation(delta(1), None).finish()


async def test_what_fails_after_the_finish_is_nothing_to_the_reader() -> None:
    made = generation(delta(1, "stop"), RuntimeError("late"))
    await made.finish()
    await asyncio.sleep(0)
    assert [choice.finish for choice in made.choices] == ["stop"]


async def test_a_reader_hears_that_nothing_comes() -> None:
    made = generation(delta(1), None, delta(2, "stop"))
    read = [len(new) async for new in made.events(idle_s=0.02)]
    assert read[0] == read[-1] == 1
    assert 0 in read
