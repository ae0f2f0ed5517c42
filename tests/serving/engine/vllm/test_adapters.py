"""A version is on every server, whatever becomes of the servers."""

import asyncio

import pytest
from burnish.serving.engine import EngineStopped
from burnish.serving.engine.vllm import BadAdapter

from tests.serving.engine.test_contract import ask

from .conftest import MakeAdapter, Pool, Server, Start, first_delta, served, up


def test_a_version_is_on_every_server_once_it_is_loaded_and_on_none_once_unloaded(
    pair: list[Server], pool: Pool, adapter: MakeAdapter
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@2", adapter("two"))
    assert [len(server.engine.adapters) for server in pair] == [1, 1]
    engine.generate_batch([ask(at, adapter="p@2") for at in range(4)])
    assert served(pair) == [2, 2]
    engine.unload_adapter("p@2")
    assert [server.engine.adapters for server in pair] == [(), ()]


async def test_an_old_version_is_dropped_everywhere_after_its_last_answer(
    start: Start,
    pool: Pool,
    adapter: MakeAdapter,
) -> None:
    pair = [start(pace_s=0.01), start(pace_s=0.01)]
    engine = pool(pair)
    await engine.start()
    await asyncio.to_thread(engine.load_adapter, "p@2", adapter("two"))
    _, stream = await first_delta(engine, ask(1, adapter="p@2", max_tokens=20))
    await asyncio.to_thread(engine.unload_adapter, "p@2")
    assert [len(server.engine.adapters) for server in pair] == [1, 1]
    async for _ in stream:
        pass
    assert [server.engine.adapters for server in pair] == [(), ()]
    await engine.stop()


def test_a_version_that_one_server_refuses_is_loaded_on_none(
    pair: list[Server],
    pool: Pool,
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = pool(pair)

    def refuse(*_: object) -> None:
        raise ValueError("no such folder here")

    monkeypatch.setattr(pair[1].engine, "load_adapter", refuse)
    with pytest.raises(BadAdapter, match=f"{pair[1].url}.*no such folder here"):
        engine.load_adapter("p@2", adapter("two"))
    assert engine.adapters == pair[0].engine.adapters == ()
    assert up(engine) == [True, True]


def test_a_server_that_dies_while_a_version_is_loaded_does_not_hold_it_up(
    pair: list[Server], pool: Pool, adapter: MakeAdapter
) -> None:
    engine = pool(pair)
    pair[1].kill()
    engine.load_adapter("p@2", adapter("two"))
    assert up(engine) == [True, False]
    engine.generate_batch([ask(1, adapter="p@2")])
    assert served(pair) == [1, 0]


def test_a_server_that_was_away_holds_every_live_version_before_it_answers(
    pair: list[Server],
    pool: Pool,
    adapter: MakeAdapter,
    start: Start,
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@1", adapter("one"))
    port = pair[1].port
    pair[1].kill()
    engine.pool.look_at_all()
    engine.load_adapter("p@2", adapter("two"))
    engine.unload_adapter("p@1")
    anew = start(port=port)
    engine.pool.look_at_all()
    assert anew.engine.adapters == pair[0].engine.adapters
    assert len(anew.engine.adapters) == 1
    said = engine.generate_batch([ask(1, adapter="p@2") for _ in range(2)])
    assert said[0].token_ids == said[1].token_ids
    assert served([pair[0], anew]) == [1, 1]


def test_a_server_that_restarted_between_looks_answers_for_no_version_it_lost(
    pair: list[Server],
    pool: Pool,
    adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@2", adapter("two"))
    (name,) = pair[0].engine.adapters
    pair[0].engine.unload_adapter(name)

    def hold(*_: object) -> None:
        raise ValueError("not yet")

    with monkeypatch.context() as held:
        held.setattr(pair[0].engine, "load_adapter", hold)
        engine.pool.look_at_all()
    assert "not yet" in (engine.stats().servers[0].problem or "")
    engine.generate_batch([ask(at, adapter="p@2") for at in range(2)])
    assert served(pair) == [0, 2]
    engine.generate_batch([ask(3)])  # the base it has
    assert served(pair) == [1, 2]
    engine.pool.look_at_all()
    assert engine.stats().servers[0].problem is None
    engine.generate_batch([ask(at, adapter="p@2") for at in range(2)])
    assert served(pair) == [2, 3]


def test_where_every_server_lost_a_version_it_is_loaded_for_the_request(
    pair: list[Server], pool: Pool, adapter: MakeAdapter
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@2", adapter("two"))
    (before,) = engine.generate_batch([ask(1, adapter="p@2")])
    for server in pair:
        server.engine.unload_adapter(server.engine.adapters[0])
    assert engine.generate_batch([ask(1, adapter="p@2")]) == [before]


def test_a_version_unloaded_while_a_server_was_away_is_dropped_when_it_is_back(
    pair: list[Server], pool: Pool, adapter: MakeAdapter
) -> None:
    engine = pool(pair)
    engine.load_adapter("p@2", adapter("two"))
    pair[1].healthy = False
    engine.pool.look_at_all()
    engine.unload_adapter("p@2")
    assert [len(server.engine.adapters) for server in pair] == [0, 1]
    pair[1].healthy = True
    engine.pool.look_at_all()
    assert pair[1].engine.adapters == ()
    assert up(engine) == [True, True]


def test_a_stopped_pool_takes_nothing(pair: list[Server], pool: Pool) -> None:
    engine = pool(pair)
    asyncio.run(engine.stop())
    with pytest.raises(EngineStopped):
        engine.generate_batch([ask(1)])
