"""vLLM servers that are killed, full or silent, and what becomes of their requests."""

import asyncio

import pytest
from burnish.serving.engine import EngineError, QueueFull
from burnish.serving.engine.vllm import Patience

from tests.serving.engine.test_contract import answer, ask, collect

from .conftest import NEVER, Pool, Server, Start, first_delta, served, up


async def test_a_request_that_got_nothing_is_sent_to_another_server(
    pair: list[Server], pool: Pool
) -> None:
    engine = pool(pair)
    await engine.start()
    expected = [await answer(engine, ask(at, max_tokens=8)) for at in range(4)]
    pair[0].kill()
    assert [await answer(engine, ask(at, max_tokens=8)) for at in range(4)] == expected
    assert up(engine) == [False, True]
    assert engine.stats().errors_total == 0
    assert [s.failures_total for s in engine.stats().servers] == [1, 0]
    await engine.stop()


async def test_a_server_that_is_killed_under_a_waiting_request_only_delays_it(
    start: Start, pool: Pool
) -> None:
    doomed, other = start(pace_s=60.0), start()
    engine = pool([doomed, other])
    await engine.start()
    waiting = asyncio.create_task(answer(engine, ask(1, seed=None)))
    while not doomed.engine.running:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.to_thread(doomed.kill)
    assert (await waiting).finish_reason == "length"
    sent = doomed.engine.requests + other.engine.requests
    assert len(sent) == 2
    assert sent[0].params.seed == sent[1].params.seed is not None
    await engine.stop()


async def test_an_answer_that_has_begun_ends_with_the_error_of_its_server(
    start: Start, pool: Pool
) -> None:
    pair = [start(pace_s=0.01), start(pace_s=0.01)]
    engine = pool(pair)
    await engine.start()
    _, stream = await first_delta(engine, ask(1, max_tokens=1500))
    await asyncio.to_thread(pair[0].kill)
    with pytest.raises(EngineError, match="vLLM"):
        async for _ in stream:
            pass
    assert served(pair) == [1, 0]
    assert (up(engine), engine.stats().errors_total) == ([False, True], 1)
    assert engine.stats().running == 0
    await engine.stop()


async def test_a_client_that_hangs_up_ends_its_request_where_it_runs(
    start: Start, pool: Pool
) -> None:
    pair = [start(pace_s=0.01), start(pace_s=0.01)]
    engine = pool(pair)
    await engine.start()
    opened = [await first_delta(engine, ask(at, max_tokens=1500)) for at in range(2)]
    assert [len(server.engine.running) for server in pair] == [1, 1]
    await opened[1][1].aclose()
    async with asyncio.timeout(20):
        while pair[1].engine.running:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert [len(server.engine.running) for server in pair] == [1, 0]
    assert [server.running for server in engine.stats().servers] == [1, 0]
    await opened[0][1].aclose()
    await engine.stop()


def test_with_no_server_left_the_error_names_each(pair: list[Server], pool: Pool) -> None:
    engine = pool(pair)
    urls = [server.url for server in pair]
    for server in pair:
        server.kill()
    with pytest.raises(EngineError, match="no vLLM server answers") as told:
        engine.generate_batch([ask(1)])
    assert all(url in str(told.value) for url in urls)
    assert engine.stats().errors_total == 1


def test_one_server_says_itself_what_is_wrong(start: Start, pool: Pool) -> None:
    server = start()
    engine = pool([server])
    server.kill()
    with pytest.raises(EngineError, match=r"^vLLM: ConnectError"):
        engine.generate_batch([ask(1)])


def test_a_request_that_fails_two_servers_is_not_tried_on_a_third(start: Start, pool: Pool) -> None:
    three = [start(fails_after=0) for _ in range(3)]
    with pytest.raises(EngineError, match="500"):
        pool(three).generate_batch([ask(1)])
    assert sorted(served(three)) == [0, 1, 1]


def test_a_refusal_is_the_requests_own_and_no_server_pays_for_it(
    pair: list[Server], pool: Pool
) -> None:
    engine = pool(pair)
    for server in pair:
        server.engine.max_model_len = 20  # less than it said
    with pytest.raises(ValueError, match="context length"):
        engine.generate_batch([ask(1, length=30)])
    assert up(engine) == [True, True]


def test_a_full_server_is_passed_over_and_stays(start: Start, pool: Pool) -> None:
    full, other = start(max_requests=0), start()
    engine = pool([full, other])
    engine.generate_batch([ask(at) for at in range(4)])
    assert served([full, other]) == [0, 4]
    assert up(engine) == [True, True]
    with pytest.raises(QueueFull):
        pool([full, start(max_requests=0)]).generate_batch([ask(1)])


async def test_requests_of_a_server_that_fell_silent_are_sent_to_another(
    pair: list[Server], pool: Pool
) -> None:
    now = [0.0]
    patience = Patience(between_looks=NEVER, look=0.05, silence=15.0)
    engine = pool(pair, patience=patience, clock=lambda: now[0])
    await engine.start()
    pair[0].frozen = True
    waiting = asyncio.create_task(answer(engine, ask(1)))
    while not engine.stats().servers[0].running:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for at in (1.0, 8.0):
        now[0] = at
        await asyncio.to_thread(engine.pool.look, engine.pool.servers[0])
    assert up(engine) == [False, True]
    assert served(pair) == [0, 0]  # it may still answer
    now[0] = 16.5
    await asyncio.to_thread(engine.pool.look, engine.pool.servers[0])
    assert (await waiting).finish_reason == "length"
    assert served(pair) == [0, 1]
    await engine.stop()


async def test_a_stream_that_goes_on_is_kept_though_looks_fail(start: Start, pool: Pool) -> None:
    server = start(pace_s=0.01)
    now = [0.0]
    engine = pool([server], clock=lambda: now[0])
    await engine.start()
    stream = asyncio.create_task(collect(engine, ask(1, max_tokens=1900)))

    async def goes_on() -> None:
        before = engine.stats().tokens_total
        async with asyncio.timeout(60):
            while engine.stats().tokens_total < before + 2:  # noqa: ASYNC110
                await asyncio.sleep(0)

    server.healthy = False
    for now[0] in (10.0, 20.0, 30.0):
        await goes_on()
        await asyncio.to_thread(engine.pool.look_at_all)
    await goes_on()
    await engine.stop(drain=False)
    assert (await stream)[-1].finish_reason == "cancelled"


def test_where_none_is_up_all_are_tried(pair: list[Server], pool: Pool) -> None:
    engine = pool(pair)
    for server in pair:
        server.healthy = False
    engine.pool.look_at_all()
    assert up(engine) == [False, False]
    engine.generate_batch([ask(at) for at in range(2)])
    assert served(pair) == [1, 1]


async def test_a_request_that_waits_long_is_kept_though_a_look_fails(
    start: Start, pool: Pool
) -> None:
    slow, other = start(pace_s=60.0), start()
    now = [0.0]
    engine = pool([slow, other], clock=lambda: now[0])
    await engine.start()
    waiting = asyncio.create_task(collect(engine, ask(1)))
    while not slow.engine.running:  # noqa: ASYNC110
        await asyncio.sleep(0)
    slow.healthy, now[0] = False, 100.0
    await asyncio.to_thread(engine.pool.look_at_all)
    await answer(engine, ask(2))
    assert [server.failures_total for server in engine.stats().servers] == [0, 0]
    assert served([slow, other]) == [1, 1]
    await engine.stop(drain=False)
    assert (await waiting)[-1].finish_reason == "cancelled"
