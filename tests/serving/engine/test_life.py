"""The engine under way: streams, cancellation, limits, swaps, failures, shutdown."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest
from burnish.kernels.lora import AdapterError, save_adapter
from burnish.serving.engine import (
    Delta,
    EngineError,
    EngineStopped,
    LocalEngine,
    QueueFull,
    Request,
    UnknownAdapter,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Ask, random_adapter


async def collect(engine: LocalEngine, request: Request) -> list[Delta]:
    return [delta async for delta in engine.generate(request)]


async def until(condition, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the engine is another thread
            await asyncio.sleep(0.001)


def all_free(engine: LocalEngine) -> bool:
    stats = engine.stats()
    return (stats.free_blocks, stats.running, stats.waiting) == (stats.total_blocks, 0, 0)


async def test_streams_say_what_a_batch_says(running: LocalEngine, ask: Ask) -> None:
    requests = [ask(i, length=5 + i) for i in range(12)]
    streams = await asyncio.gather(*(collect(running, request) for request in requests))
    batch = await asyncio.to_thread(running.generate_batch, requests)
    for deltas, whole in zip(streams, batch, strict=True):
        assert "".join(d.text for d in deltas) == whole.text
        assert tuple(t for d in deltas for t in d.token_ids) == whole.token_ids
        assert [d.finish_reason for d in deltas][:-1] == [None] * (len(deltas) - 1)
        assert deltas[-1].finish_reason == "length"
    assert all_free(running)


async def test_short_steps_are_handed_out_together(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("burnish.serving.engine.streams.BURST_S", 1e6)
    request = ask(1, max_tokens=40, logprobs=2)  # alternatives: a step for each token
    first, rest = await collect(running, request)
    assert len(first.token_ids) == 1  # not kept waiting
    assert rest.finish_reason == "length"
    assert len(rest.token_ids) == len(rest.logprobs) == len(rest.top) == 39
    (whole,) = await asyncio.to_thread(running.generate_batch, [request])
    assert (first.token_ids + rest.token_ids, first.top + rest.top) == (whole.token_ids, whole.top)
    assert first.text + rest.text == whole.text


async def test_closing_a_stream_frees_its_blocks(running: LocalEngine, ask: Ask) -> None:
    stream = running.generate(ask(1, max_tokens=400))
    await anext(stream)
    assert running.stats().free_blocks < running.stats().total_blocks
    await stream.aclose()  # type: ignore[attr-defined]
    await until(lambda: all_free(running))
    assert running.stats().tokens_total < 400


async def test_cancelling_a_waiting_task_frees_its_place(running: LocalEngine, ask: Ask) -> None:
    tasks = [asyncio.create_task(collect(running, ask(i, max_tokens=400))) for i in range(12)]
    await until(lambda: running.stats().waiting > 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: all_free(running))


async def test_a_deadline_ends_an_answer(running: LocalEngine, ask: Ask) -> None:
    deltas = await collect(running, ask(1, max_tokens=490, deadline_s=0.003))
    assert deltas[-1].finish_reason == "deadline"
    assert all_free(running)


async def test_a_full_queue_refuses(tiny_model: Path, loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=2, max_waiting=3)
    await engine.start()
    tasks = [asyncio.create_task(collect(engine, ask(i, max_tokens=60))) for i in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await collect(engine, ask(9))
    answers = await asyncio.gather(*tasks)
    assert all(deltas[-1].finish_reason == "length" for deltas in answers)
    assert (await collect(engine, ask(9)))[-1].finish_reason == "length"
    await engine.stop()


async def test_higher_priority_goes_first(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=1)
    await engine.start()
    done: list[str] = []

    async def run(name: str, request: Request) -> None:
        await collect(engine, request)
        done.append(name)

    first = asyncio.create_task(run("first", ask(1, max_tokens=490)))
    await until(lambda: engine.stats().running == 1)
    later = [run("low", ask(2)), run("high", ask(3, priority=5))]
    await asyncio.gather(first, *later)
    assert done == ["first", "high", "low"]
    await engine.stop()


async def test_answers_wait_for_blocks_and_none_is_lost(loaded, ask: Ask) -> None:
    engine = LocalEngine(loaded, max_running=8, num_blocks=3)  # one at a time
    answers = await asyncio.to_thread(engine.generate_batch, [ask(i) for i in range(6)])
    assert all(len(a.token_ids) == 16 for a in answers)
    assert all_free(engine)


async def test_stop_drains(engine: LocalEngine, ask: Ask) -> None:
    await engine.start()
    tasks = [asyncio.create_task(collect(engine, ask(i, max_tokens=40))) for i in range(12)]
    await until(lambda: engine.stats().running > 0)
    await engine.stop(drain=True)
    answers = await asyncio.gather(*tasks)
    assert all(sum(len(d.token_ids) for d in deltas) == 40 for deltas in answers)
    with pytest.raises(EngineStopped):
        await collect(engine, ask(1))


async def test_stop_without_draining_cancels(engine: LocalEngine, ask: Ask) -> None:
    await engine.start()
    tasks = [asyncio.create_task(collect(engine, ask(i, max_tokens=490))) for i in range(12)]
    await until(lambda: engine.stats().running > 0)
    await engine.stop(drain=False)
    answers = await asyncio.gather(*tasks)
    assert {deltas[-1].finish_reason for deltas in answers} == {"cancelled"}
    await engine.start()  # and it can be started again
    assert (await collect(engine, ask(1)))[-1].finish_reason == "length"
    await engine.stop()


async def test_a_failing_step_loses_its_requests_and_nothing_else(
    running: LocalEngine, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = running.model.step

    def broken(*args, **kwargs):
        monkeypatch.setattr(running.model, "step", step)
        raise RuntimeError("out of luck")

    monkeypatch.setattr(running.model, "step", broken)
    with pytest.raises(EngineError, match="out of luck"):
        await collect(running, ask(1))
    assert all_free(running)
    assert (await collect(running, ask(1)))[-1].finish_reason == "length"
    assert running.stats().errors_total == 1


def save(engine: LocalEngine, version: int, folder: Path) -> Path:
    return save_adapter(random_adapter(engine.model, version), folder / str(version), "base")


async def test_versions_come_and_go_under_concurrent_streams(
    running: LocalEngine, ask: Ask, tmp_path: Path
) -> None:
    """Each stream is wholly of the version it began with, through 20 swaps."""
    folders = {version: save(running, version, tmp_path) for version in range(2, 6)}
    expected: dict[tuple[int, int], tuple[int, ...]] = {}
    for version, folder in folders.items():
        running.load_adapter(f"p@{version}", folder)
        for user in range(8):
            request = ask(user, adapter=f"p@{version}")
            answer = await asyncio.to_thread(running.generate_batch, [request])
            expected[user, version] = answer[0].token_ids
        running.unload_adapter(f"p@{version}")

    current, swaps, checked = 2, 0, 0
    running.load_adapter("p@2", folders[2])

    async def stream(number: int) -> None:
        nonlocal checked
        while swaps < 20:
            version = current
            deltas = await collect(running, ask(number, adapter=f"p@{version}"))
            assert tuple(t for d in deltas for t in d.token_ids) == expected[number, version]
            checked += 1

    async def swap() -> None:
        nonlocal current, swaps
        while swaps < 20:
            old, new = current, 2 + (current - 1) % 4
            await asyncio.to_thread(running.load_adapter, f"p@{new}", folders[new])
            current = new
            await asyncio.to_thread(running.unload_adapter, f"p@{old}")
            swaps += 1
            await asyncio.sleep(0.02)

    await asyncio.gather(swap(), *(stream(number) for number in range(8)))
    assert checked >= 20
    await until(lambda: all_free(running))
    assert running.adapters == (f"p@{current}",)
    # Every slot but the current one has been given back.
    assert len(running.model._active.scales) == 1


async def test_an_unloaded_version_lives_until_its_last_answer(
    running: LocalEngine, ask: Ask, tmp_path: Path
) -> None:
    running.load_adapter("p@2", save(running, 2, tmp_path))
    request = ask(1, adapter="p@2", max_tokens=200)
    expected = (await asyncio.to_thread(running.generate_batch, [request]))[0].token_ids
    task = asyncio.create_task(collect(running, request))
    await until(lambda: running.stats().running == 1)
    running.unload_adapter("p@2")
    assert running.adapters == ()
    with pytest.raises(UnknownAdapter):
        await collect(running, request)
    deltas = await task
    assert tuple(t for d in deltas for t in d.token_ids) == expected
    assert running.model.adapter(1) is None


async def test_a_name_means_one_set_of_weights(
    running: LocalEngine, ask: Ask, tmp_path: Path
) -> None:
    running.load_adapter("p@2", save(running, 2, tmp_path))
    request = ask(1, adapter="p@2")
    before = await asyncio.to_thread(running.generate_batch, [request])
    running.load_adapter("p@2", save(running, 3, tmp_path))  # already resident: left alone
    assert await asyncio.to_thread(running.generate_batch, [request]) == before
    with pytest.raises(ValueError, match="never replaced"):
        running.set_adapter_weights("p@2", random_adapter(running.model, 4))
    with pytest.raises(AdapterError):
        running.load_adapter("p@3", tmp_path / "nowhere")
    assert running.adapters == ("p@2",)


def test_a_candidate_in_memory_is_taken_as_it_is(engine: LocalEngine, ask: Ask) -> None:
    live = random_adapter(engine.model, 2).trainable()
    engine.set_adapter_weights("candidate", live)
    before = engine.generate_batch([ask(1, adapter="candidate")])
    for tensor in live.tensors.values():
        tensor.data.zero_()
    assert engine.generate_batch([ask(1, adapter="candidate")]) == before


def test_batches_from_several_threads(engine: LocalEngine, ask: Ask) -> None:
    answers: dict[int, tuple[int, ...]] = {}

    def run(at: int) -> None:
        answers[at] = engine.generate_batch([ask(at)])[0].token_ids

    threads = [threading.Thread(target=run, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == {at: engine.generate_batch([ask(at)])[0].token_ids for at in range(4)}


wishes = st.lists(
    st.tuples(
        st.integers(1, 60),  # prompt length
        st.integers(1, 24),  # tokens wanted
        st.sampled_from(["run", "close", "close", "deadline", "stop string"]),
        st.integers(0, 6),  # deltas to read before closing
    ),
    min_size=40,
    max_size=40,
)


@settings(max_examples=5, deadline=None, suppress_health_check=[*HealthCheck])  # pyright: ignore[reportArgumentType]
@given(wishes)
def test_no_block_leaks_after_200_random_requests(loaded, ask: Ask, wishes) -> None:
    async def one(engine: LocalEngine, at: int, length: int, wanted: int, way: str, read: int):
        request = ask(
            at,
            length=length,
            max_tokens=wanted,
            deadline_s=0.002 * read if way == "deadline" else None,
            stop=("e", "a") if way == "stop string" else (),
        )
        stream = engine.generate(request)
        async with contextlib.aclosing(stream):  # type: ignore[type-var]
            seen = 0
            async for _ in stream:
                seen += 1
                if way == "close" and seen > read:
                    return

    async def everyone() -> None:
        engine = LocalEngine(loaded, max_running=6, num_blocks=15)
        await engine.start()
        await asyncio.gather(*(one(engine, at, *wish) for at, wish in enumerate(wishes)))
        await until(lambda: all_free(engine))
        await engine.stop()
        assert sorted(engine._core.kv.pool.allocate(15)) == list(range(15))

    asyncio.run(everyone())
