"""Faults at every seam of the engine: the request they hit fails with an error, the others' tokens do
not change, nothing is held afterwards, and the engine goes on or is known to have failed."""

import asyncio
from typing import Any

import pytest
from burnish.kernels.lora import AdapterWeights
from burnish.serving.engine import (
    BadPrompt,
    Completion,
    Delta,
    EngineError,
    EngineFailed,
    LocalEngine,
    Request,
    SamplingParams,
    Thinking,
    json_grammar,
)
from burnish.serving.engine.core import FAILED_STEPS
from burnish.serving.engine.streams import Deliveries, DeltaStream

from .conftest import Ask, random_adapter
from .faults import BAD_LENGTH, BAD_TOKENS, SEAMS, Break, break_sampler, break_sampler_update

PATIENCE_S = 10.0  # far less than for ever, and enough for a busy machine


async def collect(engine: LocalEngine, request: Request) -> list[Delta]:
    async with asyncio.timeout(PATIENCE_S):
        return [delta async for delta in engine.generate(request)]


def all_free(engine: LocalEngine) -> bool:
    stats = engine.stats()
    return (stats.free_blocks, stats.running, stats.waiting) == (stats.total_blocks, 0, 0)


@pytest.mark.parametrize("seam", SEAMS, ids=[seam.__name__ for seam in SEAMS])
async def test_a_fault_is_one_requests(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch, seam: Break
) -> None:
    stateful = {"frequency_penalty": 0.5} if seam in (break_sampler, break_sampler_update) else {}
    good = [ask(at, length=20 + at, **stateful) for at in range(4)]
    expected = [c.token_ids for c in await asyncio.to_thread(running.generate_batch, good)]
    with monkeypatch.context() as patch:
        seam(running, patch)
        streams = [asyncio.create_task(collect(running, request)) for request in good]
        bad = ask(99, length=BAD_LENGTH, max_tokens=BAD_TOKENS, **stateful)
        with pytest.raises(EngineError, match="injected"):
            await collect(running, bad)
        answers = [Completion.join(deltas).token_ids for deltas in await asyncio.gather(*streams)]
    assert answers == expected
    assert all_free(running)
    assert running.stats().errors_total == 1
    assert (await collect(running, bad))[-1].finish_reason == "length"


async def test_a_failed_step_is_its_requests_and_the_queue_goes_on(
    loaded, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine(loaded, max_running=2)
    core = engine._core
    update, left = core.scheduler.update_from_output, [1]

    def once(*args: Any) -> None:
        if left and left.pop():
            raise RuntimeError("at the commit")
        update(*args)

    monkeypatch.setattr(core.scheduler, "update_from_output", once)
    await engine.start()
    outcomes = await asyncio.gather(
        *(collect(engine, ask(at)) for at in range(6)), return_exceptions=True
    )
    failed = [one for one in outcomes if isinstance(one, EngineError)]
    assert 1 <= len(failed) <= 2
    assert all("at the commit" in str(one) for one in failed)
    assert sum(isinstance(one, list) for one in outcomes) == 6 - len(failed)
    assert all_free(engine)
    await engine.stop()


async def test_steps_that_only_fail_end_the_engine_and_everybody_is_told(
    loaded, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(loaded, "step", broken)
    engine = LocalEngine(loaded, max_running=1)
    await engine.start()
    thread = engine.vital
    assert thread is not None
    outcomes = await asyncio.gather(
        *(collect(engine, ask(at)) for at in range(FAILED_STEPS + 3)), return_exceptions=True
    )
    assert all("failed" in str(one) for one in outcomes)
    assert sum(isinstance(one, EngineFailed) for one in outcomes) == 3
    await asyncio.to_thread(thread.join, PATIENCE_S)
    assert not thread.is_alive()
    assert engine.vital is thread  # ended, and not because it was stopped
    with pytest.raises(EngineFailed):
        await collect(engine, ask(1))
    with pytest.raises(EngineFailed):
        await asyncio.to_thread(engine.generate_batch, [ask(1)])
    with pytest.raises(EngineFailed):
        await asyncio.to_thread(engine.set_adapter_weights, "p@2", random_adapter(engine.model, 2))
    await engine.stop()


async def test_a_fault_outside_every_guard_ends_the_engine_and_everybody_is_told(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [asyncio.create_task(collect(running, ask(at, max_tokens=400))) for at in range(10)]
    while not running.stats().running:  # noqa: ASYNC110
        await asyncio.sleep(0)
    deliver, left = running._deliveries.deliver, [1]

    def once(started: float) -> None:
        if left and left.pop():
            raise TypeError("in the delivery")
        deliver(started)

    monkeypatch.setattr(running._deliveries, "deliver", once)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in outcomes} == {EngineFailed}
    assert all("in the delivery" in str(one) for one in outcomes)


def test_the_loop_in_the_callers_thread_fails_its_caller(
    engine: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("in the queue")

    monkeypatch.setattr(engine._core.scheduler, "expired", broken)
    with pytest.raises(EngineFailed, match="in the queue"):
        engine.generate_batch([ask(1), ask(2)])


async def test_what_was_drawn_before_a_failure_is_delivered() -> None:
    """Also where both arrive together: it was generated, and is recorded."""
    stream, deliveries = DeltaStream(), Deliveries()
    for item in (Delta("a", (1,)), Delta("b", (2,)), EngineError("injected")):
        deliveries.add(stream, item)
    deliveries.deliver(0.0)
    assert (await stream.get()).token_ids == (1, 2)
    for _ in range(2):
        with pytest.raises(EngineError, match="injected"):
            await stream.get()


# -- values that broke it ----------------------------------------------------------------------

HUGE: list[dict[str, Any]] = [
    {"thinking": Thinking(None, (5,), (5,), opened=True, budget=10**20)},
    {"top_k": 10**20},
    {"seed": 10**30},
    {"seed": -(10**30)},
    {"max_tokens": 10**20},
    {"temperature": 1e308},
    {"temperature": 1e-308},
    {"logit_bias": {7: 1e308}},
    {"frequency_penalty": 1e308},
]


@pytest.mark.parametrize("params", HUGE, ids=[next(iter(p)) for p in HUGE])
async def test_a_huge_number_is_a_number(
    running: LocalEngine, ask: Ask, params: dict[str, Any]
) -> None:
    asked = ask(1, **{"max_tokens": 4, **params})
    if params.get("max_tokens"):
        asked = ask(1, length=running.max_model_len - 4, **params)
    got = Completion.join(await collect(running, asked))
    assert len(got.token_ids) == 4
    assert all(0 <= token < running.model.config.vocab_size for token in got.token_ids)
    assert running.stats().errors_total == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "name", ["temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"]
)
def test_what_is_no_number_is_refused(name: str, value: float) -> None:
    wrong: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        SamplingParams(**wrong)


def test_a_bias_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="logit_bias"):
        SamplingParams(logit_bias={3: float("nan")})


@pytest.mark.parametrize("token", [-1, 10**6, 2**63, -(2**70)])
async def test_a_token_outside_the_vocabulary_is_refused(running: LocalEngine, token: int) -> None:
    with pytest.raises(BadPrompt, match="vocabulary"):
        await collect(running, Request("r", (5, token, 6)))


@pytest.fixture(params=["plain", "filtered", "greedy", "reference"])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {
        "plain": {},
        "filtered": {"top_p": 0.9},
        "greedy": {"temperature": 0.0},
        "reference": {"frequency_penalty": 0.1, "logprobs": 2},
    }[request.param]


async def test_weights_that_are_no_numbers_fail_their_own_requests(
    running: LocalEngine, ask: Ask, kind: dict[str, Any]
) -> None:
    broken = random_adapter(running.model, 2)
    tensors = {name: tensor * float("nan") for name, tensor in broken.tensors.items()}
    running.set_adapter_weights("p@2", AdapterWeights(broken.spec, tensors))
    good = ask(1, max_tokens=40, **kind)
    (expected,) = await asyncio.to_thread(running.generate_batch, [good])
    beside = asyncio.create_task(collect(running, good))
    with pytest.raises(EngineError, match="not numbers"):
        await collect(running, ask(2, adapter="p@2", **kind))
    assert Completion.join(await beside).token_ids == expected.token_ids


async def test_a_grammar_that_fails_midway_fails_its_own_request(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ask(1, grammar=json_grammar({"type": "object"}), max_tokens=30, ignore_eos=False)
    runner = running._core._runner
    admit = runner.admit

    def spoil(sequence: Any) -> None:
        """As a parser's limits do: it falls into an error that it never leaves."""
        admit(sequence)
        processor = runner.sampler._processors.get(sequence.row)
        if processor is not None:
            matcher: Any = processor._grammar
            matcher._matcher.consume_token(0)

    monkeypatch.setattr(runner, "admit", spoil)
    good = ask(2)
    (expected,) = await asyncio.to_thread(running.generate_batch, [good])
    beside = asyncio.create_task(collect(running, good))
    with pytest.raises(EngineError, match="grammar"):
        await collect(running, held)
    assert Completion.join(await beside).token_ids == expected.token_ids
