"""A hundred writers on one session while Redis is killed: what was acknowledged is there, once,
in each writer's order; a compaction that was interrupted is there whole or not at all."""

import asyncio
import shutil
from pathlib import Path

from burnish.memory import MemoryStore, connect
from redis.exceptions import RedisError

from tests.conftest import RedisServer, missing
from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import said

WRITERS, STEPS = 100, 6


async def test_kill_of_redis_loses_no_acknowledged_step(tmp_path: Path):
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        missing("redis-server is not installed (Debian: redis-server)")
    server = RedisServer(binary, tmp_path, appendfsync="always")
    server.start()
    client = connect(server.url)
    store = MemoryStore(client, count_words)
    acknowledged = 0
    enough = asyncio.Event()

    async def write(writer: int) -> None:
        nonlocal acknowledged
        for n in range(STEPS):
            event = said(f"{writer}/{n}", id=f"{writer}-{n}")
            while True:
                try:
                    await store.append("t", "s", [event])
                    break
                except RedisError:
                    await asyncio.sleep(0.05)  # not acknowledged: the same id again
            acknowledged += 1
            if acknowledged > WRITERS * STEPS // 3:
                enough.set()

    async def compact() -> None:
        while True:
            try:
                await store.compaction.compact("t", "s", "recent", 200)
            except RedisError:
                await asyncio.sleep(0.05)

    async def kill() -> None:
        await enough.wait()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    await store.append("t", "s", [said("first", id="first")])
    compacting = asyncio.create_task(compact())
    try:
        await asyncio.gather(kill(), *(write(writer) for writer in range(WRITERS)))
        compacting.cancel()
        log = await store.read("t", "s", limit=1000)
        texts = [step["content"] for step in log]
        assert len(texts) == len(set(texts)) == WRITERS * STEPS + 1
        assert [int(step["cursor"]) for step in log] == list(range(1, len(log) + 1))
        for writer in range(WRITERS):
            own = [text for text in texts if text.startswith(f"{writer}/")]
            assert own == [f"{writer}/{n}" for n in range(STEPS)]
        stats = await store.stats("t", "s")
        assert stats["tokens"] == sum(step["tokens"] for step in log)
        view = await store.context("t", "s", 300)
        assert view["tokens"] <= 300
        if view["plan"]:
            report = await store.compaction.decisions("t", "s", view["plan"], limit=1000)
            assert sum(report["counts"].values()) == len(report["verdicts"])
    finally:
        compacting.cancel()
        await client.aclose()
        server.stop()
