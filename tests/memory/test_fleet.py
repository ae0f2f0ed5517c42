"""Memory on a real Redis Cluster of six servers, and behind Sentinels."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from burnish.feedback.redis_clients import open_client
from burnish.learner.database import Database
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.ticks import Tick, publish, publish_intake
from burnish.memory import MemoryStore, connect
from redis.exceptions import RedisError

from tests.learner.conftest import latest_ticks
from tests.memory.conftest import Clock, count_words
from tests.memory.sessions.test_sessions import said
from tests.memory.test_cluster import test_everything_works_in_cluster_mode as use_everything
from tests.redis_fleet import ClusterFleet, SentinelFleet
from tests.waiting import eventually

Fleet = SentinelFleet | ClusterFleet


@pytest.fixture(scope="module", params=[SentinelFleet, ClusterFleet], ids=["sentinel", "cluster"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Fleet]:
    made: Fleet = request.param(tmp_path_factory.mktemp("redis"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def memory(fleet: Fleet, clock: Clock) -> AsyncIterator[MemoryStore]:
    client = connect(fleet.url)
    yield MemoryStore(client, count_words, clock=clock)
    await client.aclose()


async def test_everything_works(memory: MemoryStore, clock: Clock):
    await use_everything(memory, clock)


async def test_sessions_lie_on_every_node(memory: MemoryStore, fleet: Fleet):
    for n in range(30):
        await memory.append("acme", f"s{n}", [said(f"number {n}")])
    for n in range(30):
        view = await memory.context("acme", f"s{n}", 50)
        assert view["messages"][0]["content"] == f"number {n}"
    if isinstance(fleet, ClusterFleet):
        assert all(server.asks("DBSIZE") for server in fleet.servers[:3])


def test_leases_and_ticks_need_no_one_server(fleet: Fleet, tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/experience.db")
    database.migrate()
    client = open_client(fleet.url, socket_timeout=5)
    with (
        Lease(client, "intake:0", 5.0, database=database),
        pytest.raises(LeaseHeld),
        Lease(client, "intake:0", 5.0, database=database),
    ):
        pass
    publish(client, Tick("update", "default", "learnt"))
    for _ in range(2):
        publish_intake(client, Tick("intake", "*", "took in", counts={"interactions": 1}))
    newest, older = latest_ticks(client)[:2]
    assert newest["counts"] == {"interactions": 2}
    assert older["did"] == "learnt"
    client.close()
    database.close()


async def test_memory_goes_on_after_a_failover(memory: MemoryStore, fleet: Fleet):
    """What replicas had by then is there; the client finds the new master by itself."""
    await memory.append("acme", "kept", [said("before")])
    if isinstance(fleet, SentinelFleet):
        old = fleet.master()
        assert old is not None
        eventually(old.is_copied, 30)
        old.kill()
        eventually(lambda: (fleet.master() or old) is not old, 60)
    else:
        key = "burnish:mem:{acme:kept}:meta"
        old = fleet.owner(key)
        assert old is not None
        eventually(old.is_copied, 30)
        old.kill()
        eventually(lambda: fleet.owner(key), 60)
    for _ in range(100):
        try:
            await memory.append("acme", "kept", [said("after")])
            break
        except RedisError:
            continue
    view = await memory.context("acme", "kept", 50)
    assert [m["content"] for m in view["messages"]][:1] == ["before"]
    assert view["messages"][-1]["content"] == "after"
