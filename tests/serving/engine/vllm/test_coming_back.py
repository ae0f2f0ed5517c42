"""vLLM servers that are away and come back."""

import asyncio
import logging
from pathlib import Path

import pytest
from burnish.serving.engine import EngineError
from burnish.serving.engine.vllm import Patience, Unreachable, VllmEngine

from tests.serving.conftest import closed_port
from tests.serving.engine.test_contract import answer, ask

from .conftest import Pool, Server, Start, served, up


def test_a_server_that_is_away_at_the_start_joins_later(start: Start, tiny_model: Path) -> None:
    here, port = start(), closed_port()
    engine = VllmEngine([here.url, f"http://127.0.0.1:{port}"], tiny_model, key="key")
    assert up(engine) == [True, False]
    engine.generate_batch([ask(1)])
    late = start(port=port)
    engine.pool.look_at_all()
    assert up(engine) == [True, True]
    engine.generate_batch([ask(1), ask(2)])
    assert served([here, late]) == [2, 1]


def test_nobody_there_names_each_address(tiny_model: Path) -> None:
    urls = [f"http://127.0.0.1:{closed_port()}" for _ in range(2)]
    with pytest.raises(Unreachable, match="no vLLM server answers") as told:
        VllmEngine(urls, tiny_model)
    assert all(url in str(told.value) for url in urls)


def test_an_unhealthy_server_leaves_and_comes_back(
    pair: list[Server], pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    engine = pool(pair)
    pair[1].healthy = False
    engine.pool.look_at_all()
    engine.pool.look_at_all()
    (told,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert pair[1].url in told
    assert "not healthy" in told
    engine.generate_batch([ask(at) for at in range(3)])
    assert served(pair) == [3, 0]
    pair[1].healthy = True
    engine.pool.look_at_all()
    engine.generate_batch([ask(at) for at in range(2)])
    assert served(pair) == [4, 1]


def test_a_server_of_shorter_context_stays_away_and_says_why(
    pair: list[Server], pool: Pool, start: Start
) -> None:
    engine = pool(pair)
    port = pair[1].port
    pair[1].kill()
    start(port=port, max_model_len=100)
    engine.pool.look_at_all()
    assert up(engine) == [True, False]
    assert "--max-model-len is 100" in (engine.stats().servers[1].problem or "")


async def test_a_server_that_failed_a_request_is_looked_at_at_once(
    start: Start, pool: Pool
) -> None:
    engine = pool([start(fails_after=0)])  # healthy, and looked at by itself in an hour
    await engine.start()
    with pytest.raises(EngineError, match="500"):
        await answer(engine, ask(1))
    async with asyncio.timeout(20):
        while up(engine) != [True]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await engine.stop()


async def test_while_it_runs_servers_are_watched(
    pair: list[Server], pool: Pool, start: Start
) -> None:
    engine = pool(pair, patience=Patience(between_looks=0.01))
    await engine.start()

    async def until(wanted: list[bool]) -> None:
        async with asyncio.timeout(20):
            while up(engine) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    port = pair[0].port
    await asyncio.to_thread(pair[0].kill)
    await until([False, True])
    await asyncio.to_thread(start, port)
    await until([True, True])
    assert engine.vital is not None
    await engine.stop()
    assert engine.vital is None
