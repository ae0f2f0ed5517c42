"""Fault tolerance of memory: a hundred writers while Redis and serving are killed; tenant isolation.

The writers append steps of known ids over HTTP to a service of their own (`burnish up`) and retry
what was not acknowledged. Both processes are killed with SIGKILL midway. Afterwards every
acknowledged step must be in the log once, and each writer's steps in the order it wrote them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx2 as httpx
from burnish.memory import MemoryStore
from burnish.ops.bench.lib.service import RunningService, run_service

WRITERS, STEPS = 100, 12
TIMEOUT_S = 180.0


def killed_midway(writers: int = WRITERS, steps: int = STEPS) -> dict[str, Any]:
    """Counts of steps acknowledged, missing, duplicated and out of order, and the seconds it took."""
    with (
        tempfile.TemporaryDirectory(prefix="burnish-bench-memory-") as scratch,
        run_service(Path(scratch)) as service,
    ):
        return asyncio.run(_written(service, writers, steps))


async def _written(service: RunningService, writers: int, steps: int) -> dict[str, Any]:
    url = f"{service.url}/v1/memory/sessions/shared/events"
    acknowledged: dict[str, str] = {}
    errors: Counter[str] = Counter()
    began = time.monotonic()
    limits = httpx.Limits(max_connections=writers)
    async with httpx.AsyncClient(timeout=20, limits=limits) as client:

        async def write(writer: int) -> None:
            for number in range(steps):
                name = f"w{writer}-{number}"
                event = {"id": name, "role": "user", "content": f"writer {writer} step {number}"}
                while name not in acknowledged:
                    if time.monotonic() - began > TIMEOUT_S:
                        return
                    try:
                        reply = await client.post(url, json={"events": [event]})
                        if reply.status_code == 201:
                            acknowledged[name] = reply.json()["events"][0]["cursor"]
                            break
                        errors[str(reply.status_code)] += 1
                    except httpx.HTTPError as error:
                        errors[type(error).__name__] += 1
                    await asyncio.sleep(0.2)

        async def kill() -> None:
            for share, child in ((0.25, "redis"), (0.5, "serving")):
                while len(acknowledged) < share * writers * steps:  # noqa: ASYNC110 (a number)
                    await asyncio.sleep(0.01)
                os.kill(service.pid(child), signal.SIGKILL)

        await asyncio.wait_for(
            asyncio.gather(kill(), *(write(n) for n in range(writers))), TIMEOUT_S + 30
        )
        await asyncio.to_thread(service.wait_until_ready)
        log = await _log(client, url)
    seen = Counter(step["id"] for step in log)
    places = {step["id"]: int(step["cursor"]) for step in log}
    wrong = sum(
        places.get(f"w{w}-{n}", 0) >= places.get(f"w{w}-{n + 1}", 0)
        for w in range(writers)
        for n in range(steps - 1)
    )
    moved = sum(places.get(name) != int(cursor) for name, cursor in acknowledged.items())
    return {
        "writers": writers,
        "sent": writers * steps,
        "acknowledged": len(acknowledged),
        "missing": sum(name not in seen for name in acknowledged),
        "twice": sum(n > 1 for n in seen.values()),
        "out_of_order": wrong,
        "at_another_place": moved,
        "not_taken_at_first": dict(errors),
        "seconds": round(time.monotonic() - began, 1),
    }


async def _log(client: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["cursor"] if found else "0"
        reply = await client.get(url, params={"after": after, "limit": 100})
        page = reply.raise_for_status().json()["events"]
        found += page
        if not page:
            return found


async def tenants_apart(store: MemoryStore, operations: int = 400, seed: int = 0) -> dict[str, int]:
    """Tenants with equal session names act in random order; counts reads of another tenant's text."""
    rng, crossed, reads = Random(seed), 0, 0
    tenants = [f"{name}-{uuid.uuid4().hex[:6]}" for name in ("a", "a:b", "a}{b", "ä/..", "*")]
    for number in range(operations):
        tenant = rng.choice(tenants)
        session = rng.choice(("s", "s:1", "{s}"))
        mark = f"belongs to <{tenants.index(tenant)}> number {number}"
        await store.append(tenant, session, [{"role": "user", "content": mark}])
        if rng.random() < 0.2:
            await store.compaction.compact(tenant, session, rng.choice(("recent", "learned")), 400)
        if rng.random() < 0.3:
            await store.records.put(tenant, {"text": mark, "user": "u"})
        texts = [
            *(m["content"] for m in (await store.context(tenant, session, 500, mark))["messages"]),
            *(step["content"] for step in await store.search(tenant, session, "belongs number")),
            *(step["content"] for step in await store.read(tenant, session)),
            *(r["text"] for r in await store.records.search(tenant, "belongs number", user="u")),
        ]
        reads += len(texts)
        ours = f"<{tenants.index(tenant)}>"
        others = [f"<{i}>" for i in range(len(tenants)) if f"<{i}>" != ours]
        crossed += sum(any(other in text for other in others) for text in texts)
    return {"operations": operations, "texts_read": reads, "crossed": crossed}
