"""Who gets how much of a step: decoding first, then short prompts, and long ones without starving."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.scheduler import FIRST_COME_EVERY, Scheduler
from burnish.serving.engine.sequence import Sequence
from hypothesis import given
from hypothesis import strategies as st

from .conftest import Ask

MODEL: Any = SimpleNamespace(recurrent=False, new_pages=lambda slots: None)
STEP, BESIDE = 128, 32  # prompt tokens in a step alone, and beside decoding sequences


class Simulation:
    """A scheduler whose steps take no time and draw a token for every sequence that may."""

    def __init__(self, rows: int = 8, blocks: int = 4096) -> None:
        kv = PagedKV(MODEL, rows, max_len=16 * blocks, block_size=16, num_blocks=blocks)
        self.scheduler = Scheduler(kv, rows, STEP)
        self.steps = 0
        self.first: dict[str, int] = {}  # step of the first token
        self.last: dict[str, int] = {}

    def ask(self, name: str, length: int, answer: int = 4) -> None:
        prompt = tuple(hash((name, at)) % 1000 for at in range(length))
        request = Request(name, prompt, SamplingParams(max_tokens=answer))
        nothing: Any = None
        sequence = Sequence(request, 0, 0, 0, answer, None, nothing, nothing)
        self.scheduler.add(sequence)

    def step(self) -> Any:
        self.steps += 1
        scheduler = self.scheduler
        while (sequence := scheduler.next_fitting()) is not None:
            scheduler.admit(sequence)
        scheduled = scheduler.schedule(1, BESIDE)
        drawing = [*scheduled.decode, *(c.sequence for c in scheduled.prefill if c.last)]
        scheduler.update_from_output(scheduled, dict.fromkeys(drawing, 1))
        for sequence in drawing:
            name = sequence.request.id
            self.first.setdefault(name, self.steps)
            sequence.tokens.append(0)
            if not sequence.remaining:
                self.last[name] = self.steps
                scheduler.finish(sequence)
        return scheduled


def test_decoding_sequences_run_in_every_step_and_bound_what_prompts_take() -> None:
    run = Simulation()
    run.ask("chat", 10, answer=100)
    run.step()
    run.ask("long", 2000)
    for _ in range(60):
        scheduled = run.step()
        assert [s.request.id for s in scheduled.decode] == ["chat"]
        assert sum(c.end - c.start for c in scheduled.prefill) <= BESIDE
    assert run.scheduler.running[1].computed == 60 * BESIDE


def test_a_prompt_alone_takes_the_whole_step() -> None:
    run = Simulation()
    run.ask("long", 2000)
    (chunk,) = run.step().prefill
    assert chunk.end == STEP


@pytest.mark.parametrize("others", [0, 3])
def test_a_short_prompt_does_not_wait_for_a_long_one(others: int) -> None:
    run = Simulation()
    for at in range(others):
        run.ask(f"chat {at}", 10, answer=200)
    run.step()
    run.ask("long", 4000)
    for _ in range(3):
        run.step()
    asked = run.steps
    run.ask("short", 30)
    while "short" not in run.first:
        run.step()
    assert run.first["short"] - asked <= 2
    assert "long" not in run.first


def test_a_long_prompt_does_not_wait_for_ever_behind_short_ones() -> None:
    run = Simulation()
    run.ask("long", 1600)
    while "long" not in run.first:
        run.ask(f"short {run.steps}", STEP, answer=2)  # as many as a step has room for
        run.step()
        assert run.steps <= FIRST_COME_EVERY * (1600 // BESIDE + 2)


requests = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 600), st.integers(1, 20)), min_size=1, max_size=25
)


@given(requests, st.integers(1, 8), st.sampled_from([50, 4096]))
def test_everything_that_is_asked_is_answered_within_a_bound(
    wanted: list[tuple[int, int, int]], rows: int, blocks: int
) -> None:
    run = Simulation(rows, blocks)
    pauses = sum(pause for pause, _, _ in wanted)
    work = sum(length + answer for _, length, answer in wanted)
    waiting = list(enumerate(wanted))
    while waiting or not run.scheduler.idle:
        while waiting and waiting[0][1][0] <= run.steps % 31:
            at, (_, length, answer) = waiting.pop(0)
            run.ask(str(at), length, answer)
        run.step()
        # Each step computes a prompt's tokens or draws one; preempted ones compute theirs again.
        assert run.steps <= pauses + 31 * len(wanted) + 4 * work
    assert len(run.last) == len(wanted)
    assert run.scheduler.kv.pool.num_free == blocks
    assert run.scheduler.num_waiting == 0


async def test_tokens_are_the_same_whatever_the_chunks(
    loaded, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [ask(at, length=[400, 20, 90, 300][at], max_tokens=30) for at in range(4)]
    answers = []
    for chunk in (16, 23, 512):
        engine = LocalEngine(loaded, max_running=4, prefill_tokens=max(chunk, 64))
        monkeypatch.setattr(type(engine._core._runner), "chunk", chunk)
        answers.append([answer.token_ids for answer in engine.generate_batch(asked)])
    assert answers[0] == answers[1] == answers[2]


async def test_numbers_can_be_read_while_the_queue_changes(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=2, max_waiting=500)
    await engine.start()

    async def one(at: int) -> None:
        async for _ in engine.generate(ask(at, max_tokens=2)):
            pass

    async def read(until: asyncio.Event) -> None:
        while not until.is_set():
            await asyncio.to_thread(lambda: [engine.stats() for _ in range(200)])

    done = asyncio.Event()
    reading = asyncio.create_task(read(done))
    await asyncio.gather(*(one(at) for at in range(200)))
    done.set()
    await reading
    await engine.stop()
