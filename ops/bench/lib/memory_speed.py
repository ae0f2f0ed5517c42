"""Latency of memory on a real Redis: appends, contexts, searches, compactions, records.

Sessions of 100, 1k and 10k steps on an append-only server of their own, with `appendfsync always` as
in `burnish up`; one client in this process, one call at a time.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import redis
from burnish.learner.compactor.ruler_worlds import needles
from burnish.memory import MemoryStore
from burnish.ops.bench.lib.memory_score import append_all
from burnish.ops.settings import free_port
from burnish.ops.supervisor.services import redis_binary

SIZES = (100, 1000, 10_000)
BUDGET = 4000
RECORDS = 10_000
CONTEXTS = 60  # by each policy


@contextmanager
def redis_server(folder: Path | None = None) -> Iterator[str]:
    """Run an append-only server on a free port; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="burnish-bench-redis-") as scratch:
        port = free_port()
        options = {"port": port, "bind": "127.0.0.1", "dir": folder or scratch, "save": ""}
        options |= {"appendonly": "yes", "appendfsync": "always", "logfile": ""}
        argv = [redis_binary(), *(str(p) for k, v in options.items() for p in (f"--{k}", v))]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(20)


async def sessions(store: MemoryStore, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Quantiles in ms by size."""
    found: dict[str, Any] = {}
    for size in sizes:
        session, rng = f"speed-{size}", Random(size)
        texts = _texts(size)
        await append_all(store, session, [{"role": "user", "content": text} for text in texts], 200)
        queries = [" ".join(rng.choice(texts).split()[-8:]) for _ in range(100)]
        numbers = iter(range(10**9))

        async def append(session: str = session, numbers: Iterator[int] = numbers) -> None:
            text = f"Step {next(numbers)} went as planned, 12 rows were written."
            await store.append("bench", session, [{"role": "assistant", "content": text}])

        async def context(
            session: str = session, rng: Random = rng, queries: Any = queries
        ) -> None:
            await store.context("bench", session, BUDGET, rng.choice(queries))

        async def search(session: str = session, rng: Random = rng, queries: Any = queries) -> None:
            await store.search("bench", session, rng.choice(queries))

        async def learned(
            session: str = session, rng: Random = rng, queries: Any = queries
        ) -> None:
            await store.context("bench", session, BUDGET, rng.choice(queries), policy="learned")

        async def compact(session: str = session) -> None:
            await store.compaction.compact("bench", session, "learned", BUDGET)

        found[str(size)] = {
            "append_ms": await _time(append, 300),
            "context_ms": await _time(context, 150),
            "search_ms": await _time(search, 150),
            "context_learned_ms": await _time(learned, 40),
            "compact_ms": await _time(compact, 3),
            "context_compacted_ms": await _time(context, 150),
        }
    return found


async def policies(store: MemoryStore, steps: int = SIZES[-1]) -> dict[str, dict[str, float]]:
    """By policy: quantiles in ms of a context over a session of so many steps, whose tokens are given
    with them; a step is appended before each, and the first ones of a policy are not counted."""
    session, rng = "speed-policies", Random(0)
    texts = _short_texts(steps, rng)
    events = [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
    ]
    await append_all(store, session, events, 200)
    found: dict[str, dict[str, float]] = {}
    for policy in (None, *store.compaction.policies.names):
        taken = []
        for number in range(3 + CONTEXTS):
            said = {"role": "user", "content": f"{rng.choice(texts)} {number}"}
            await store.append("bench", session, [said])
            query = " ".join(rng.choice(texts).split()[-4:])
            began = time.perf_counter()
            await store.context("bench", session, BUDGET, query, policy=policy)
            if number >= 3:
                taken.append((time.perf_counter() - began) * 1000)
        found[policy or "default"] = _quantiles(taken)
    stats = await store.stats("bench", session)
    return {**found, "session": {"steps": stats["steps"], "tokens": stats["tokens"]}}


def _short_texts(n: int, rng: Random) -> list[str]:
    """Steps of 13 tokens on average, framing included: 10,000 of them are 128k tokens and more."""
    said = {word.strip(".,") for text in _texts(200) for word in text.split()}
    words = sorted(filter(str.isalpha, said))
    return [f"{rng.choice(words)} is {rng.randrange(n // 10)}" for _ in range(n)]


async def records(store: MemoryStore, n: int = RECORDS, searches: int = 200) -> dict[str, Any]:
    """Latency of putting `n` records and of searching among them."""
    rng = Random(0)
    names = [f"{a}{i}" for i in range(n // 4) for a in ("service", "client", "job", "host")][:n]
    at = iter(names)

    async def put() -> None:
        name = next(at)
        value = f"{rng.randrange(10**6)} in zone {rng.choice('abcdef')}"
        record = {"text": f"The address of {name} is {value}, told by its owner.", "user": "u"}
        await store.records.put("bench", record)

    put_ms = await _time(put, n)

    async def search() -> None:
        await store.records.search("bench", f"address of {rng.choice(names)}", user="u", limit=10)

    await search()  # the index is read once per process
    return {"records": n, "put_ms": put_ms, "search_ms": await _time(search, searches)}


def _texts(n: int) -> list[str]:
    """Steps of about a dozen to a hundred tokens."""
    made: list[str] = []
    seed = 0
    while len(made) < n:
        made += [s.content for s in needles(seed, 40_000).steps if s.role in ("user", "assistant")]
        seed += 1
    return made[:n]


async def _time(do: Callable[[], Awaitable[None]], times: int) -> dict[str, float]:
    warmup = min(3, times // 3)
    taken = []
    for i in range(times):
        began = time.perf_counter()
        await do()
        if i >= warmup:
            taken.append((time.perf_counter() - began) * 1000)
    return _quantiles(taken)


def _quantiles(taken: list[float]) -> dict[str, float]:
    taken.sort()
    return {
        "p50": round(taken[len(taken) // 2], 3),
        "p95": round(taken[min(int(0.95 * len(taken)), len(taken) - 1)], 3),
    }
