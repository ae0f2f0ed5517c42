"""In cluster mode Redis refuses a command or script that spans slots: ours never do."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
from burnish.memory import MemoryStore, connect

from tests.conftest import free_port, missing
from tests.memory.conftest import Clock, count_words
from tests.memory.sessions.test_sessions import called, result, said


@pytest.fixture
def cluster_url(tmp_path: Path) -> Iterator[str]:
    """One node that owns every slot: enough to be told CROSSSLOT."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        missing("redis-server is not installed (Debian: redis-server)")
    port = free_port()
    options = ["--port", str(port), "--cluster-enabled", "yes", "--dir", str(tmp_path)]
    # The cluster bus takes a port of its own; by default port + 10000, which may not exist.
    options += ["--cluster-port", str(free_port()), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    deadline = time.monotonic() + 20
    assigned = ready = False
    while not ready:
        assert time.monotonic() < deadline, "the cluster did not come up"
        time.sleep(0.05)
        with contextlib.suppress(redis.ConnectionError):
            if not assigned:
                assigned = client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            ready = "'ok'" in str(client.execute_command("CLUSTER INFO"))
    client.close()
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(10)


@pytest.fixture
async def cluster(cluster_url: str, clock: Clock) -> AsyncIterator[MemoryStore]:
    client = connect(cluster_url)
    yield MemoryStore(client, count_words, clock=clock)
    await client.aclose()


async def test_everything_works_in_cluster_mode(cluster: MemoryStore, clock: Clock):
    tenant = "t{x}"
    await cluster.append(
        tenant, "s", [said("find the otter"), called("c"), result("c")], user="ana"
    )
    await cluster.append(tenant, "s", [said(f"filler {n}") for n in range(50)])
    assert (await cluster.search(tenant, "s", "otter"))[0]["cursor"] == "1"
    view = await cluster.context(tenant, "s", 60, "otter")
    assert any("otter" in message["content"] for message in view["messages"])
    await cluster.changes.pin(tenant, "s", "1")
    assert await cluster.forget(tenant, "s", ["1", "2"]) == 3
    await cluster.context(tenant, "s", 200, "filler", policy="bm25")
    for policy in ("summary", "bm25"):
        await cluster.compaction.compact(tenant, "s", policy, 250)
    await cluster.compaction.revert(tenant, "s")
    view = await cluster.context(tenant, "s", 400)
    node = next(message["node"] for message in view["messages"] if "node" in message)
    assert (await cluster.compaction.expand(tenant, "s", node=node))["steps"]
    await cluster.changes.delete(tenant, "s", ["10"], grace=60)
    assert (await cluster.background.compact_if_due(tenant, "s", 150)).outcome == "compacted"
    clock.now += 61
    assert await cluster.changes.sweep() == 1
    await cluster.records.put(tenant, {"id": "a", "text": "a fact", "user": "ana"})
    await cluster.records.put(tenant, {"id": "a", "text": "another fact", "user": "ana"})
    assert len(await cluster.records.search(tenant, "another fact")) == 1
    slot = {"user": "ana", "subject": "ana", "predicate": "lives in", "session_id": "s"}
    for place in ("Lisbon", "Porto", "Braga"):
        await cluster.records.put(tenant, {**slot, "id": place, "value": place})
    await cluster.records.delete(tenant, "Braga")
    await cluster.records.forget(tenant, "Lisbon")
    await cluster.records.judge(tenant, "Porto", -1)
    assert await cluster.records.update(tenant, "Porto", {"pinned": True})
    assert len(await cluster.records.search(tenant, "porto", user="ana")) == 1
    command = {"command": "create", "path": "/memories/a", "file_text": "x"}
    assert not (await cluster.files.run(tenant, "ana", command)).is_error
    assert (await cluster.extraction.extract(tenant, "s", user="ana"))["by"] == "patterns"
    gone = await cluster.forget_user(tenant, "ana")
    assert gone == {"sessions": 1, "steps": 49, "records": 2, "files": 1}
