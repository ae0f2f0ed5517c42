"""Which of several vLLM servers gets a request."""

import asyncio
from pathlib import Path

import pytest
from burnish.serving.engine import Request
from burnish.serving.engine.vllm import VllmEngine
from burnish.serving.engine.vllm.routing import BLOCK

from tests.serving.engine.test_contract import answer, ask, collect

from .conftest import MakeAdapter, Pool, Server, Start, served


def long(at: int, more: int = 0) -> Request:
    """A prompt of many blocks, and more that begin alike."""
    return ask(at, length=BLOCK * (4 + more), max_tokens=2)


def test_requests_spread_evenly(pair: list[Server], pool: Pool) -> None:
    pool(pair).generate_batch([ask(at) for at in range(10)])
    assert served(pair) == [5, 5]


async def test_a_busy_server_gets_less(start: Start, pool: Pool) -> None:
    slow, quick = start(pace_s=60.0), start()
    engine = pool([slow, quick])
    await engine.start()
    stuck = [asyncio.create_task(collect(engine, ask(at))) for at in range(2)]
    await stuck[1]  # the one that the quick server got
    for at in range(2, 6):
        await answer(engine, ask(at))
    assert served([slow, quick]) == [1, 5]
    await engine.stop(drain=False)
    assert (await stuck[0])[-1].finish_reason == "cancelled"


def test_what_others_ask_of_a_server_counts_as_its_load(pair: list[Server], pool: Pool) -> None:
    engine = pool(pair)
    pair[0].load = 3
    engine.pool.look_at_all()
    for at in range(4):
        engine.generate_batch([ask(at)])
    assert served(pair) == [0, 4]


def test_a_conversation_stays_where_its_beginning_is(pair: list[Server], pool: Pool) -> None:
    engine = pool(pair)
    for at in (1, 2):
        engine.generate_batch([long(at)])
    assert served(pair) == [1, 1]
    for more in range(1, 4):
        engine.generate_batch([long(2, more)])
    assert served(pair) == [1, 4]


def test_a_server_that_lost_its_cache_is_not_preferred_for_it(
    pair: list[Server],
    pool: Pool,
    adapter: MakeAdapter,
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@2", adapter("two"))
    engine.generate_batch([long(1), long(2)])
    pair[0].engine.unload_adapter(pair[0].engine.adapters[0])  # it restarted between two looks
    engine.pool.look_at_all()
    engine.generate_batch([ask(3)])  # the first one's turn; then it is the other's
    engine.generate_batch([long(1, 1)])
    assert served(pair) == [2, 2]


def test_real_servers_share_the_work_and_agree(real_urls: tuple[list[str], Path]) -> None:
    urls, folder = real_urls
    if len(urls) < 2:
        pytest.skip("BURNISH_TEST_VLLM_URL names one vLLM server, and not several")
    engine = VllmEngine(urls, folder)
    said = engine.generate_batch([ask(1, temperature=0.0) for _ in range(2 * len(urls))])
    assert len({one.token_ids for one in said}) == 1
    assert all(server.requests_total for server in engine.stats().servers)
