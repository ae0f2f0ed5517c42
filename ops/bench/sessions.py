"""Latency of memory calls by session length: `make bench-sessions`.

Sessions of several lengths are measured in alternation, one append and one context each, on a Redis
of their own with an append-only file, so that other load on the machine affects all lengths alike.
Tokens are those of the shipped model. Left out: the quality of the views (memory.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import redis
import typer
from burnish.memory import MemoryStore, connect
from burnish.ops.bench.lib.results import FOLDER, write_results
from burnish.ops.bench.lib.service import BenchError
from burnish.ops.settings import EMBER, free_port
from burnish.ops.supervisor.services import redis_binary
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

WORDS = [f"word{n}" for n in range(5000)]
PER_STEP = 40  # words
BUDGET = 4000
COLUMNS = ("append p50", "append p95", "context p50", "context p95", "compacted p50", "search p50")


class Author:
    """Draws steps of common and rare words; the same in every run."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def text(self, words: int = PER_STEP) -> str:
        places = (int(self._random.expovariate(1 / 300)) for _ in range(words))
        return " ".join(WORDS[min(place, len(WORDS) - 1)] for place in places)

    def step(self, place: int) -> dict[str, str]:
        return {"role": "user" if place % 2 else "assistant", "content": self.text()}


async def measure(
    store: MemoryStore, lengths: list[int], rounds: int
) -> Mapping[int, Mapping[str, float]]:
    """Quantiles in milliseconds by session length."""
    author = Author()
    for length in lengths:
        for start in range(0, length, 100):
            steps = [author.step(n) for n in range(min(100, length - start))]
            await store.append("bench", str(length), steps)
    times: dict[int, dict[str, list[float]]] = {n: {} for n in lengths}

    async def timed(length: int, what: str, work: Any) -> None:
        began = time.perf_counter()
        await work
        times[length].setdefault(what, []).append((time.perf_counter() - began) * 1000)

    for place in range(rounds):
        for n in lengths:
            session = str(n)
            await timed(n, "append", store.append("bench", session, [author.step(place)]))
            query = author.text(8)
            await timed(n, "context", store.context("bench", session, BUDGET, query))
            await timed(n, "search", store.search("bench", session, query))
    for n in lengths:
        await store.compaction.compact("bench", str(n), "recent", int(BUDGET * 0.4))
    for _ in range(rounds):
        for n in lengths:
            view = store.context("bench", str(n), BUDGET, author.text(8))
            await timed(n, "compacted", view)
    return {
        n: {f"{what} p{p}": _quantile(ms, p) for what, ms in times[n].items() for p in (50, 95)}
        for n in lengths
    }


@contextlib.contextmanager
def own_redis(folder: Path, fsync: str) -> Iterator[str]:
    """Run a server with an append-only file in `folder`; yields its URL."""
    port = free_port()
    options = {"port": port, "dir": folder, "bind": "127.0.0.1", "save": "", "appendonly": "yes"}
    options |= {"appendfsync": fsync, "daemonize": "no", "logfile": folder / "redis.log"}
    command = [redis_binary(), *(str(x) for k, v in options.items() for x in (f"--{k}", v))]
    server = subprocess.Popen(command)
    try:
        with redis.Redis(port=port) as client:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and server.poll() is None:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.05)
            else:
                raise BenchError(f"Redis did not come up; see {folder / 'redis.log'}")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(30)


def _quantile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def main(
    rounds: Annotated[int, typer.Option(help="of one append and one context per length")] = 200,
    fsync: Annotated[str, typer.Option(help="Redis's appendfsync")] = "always",
    out: Annotated[Path, typer.Option(help="where the figures go")] = FOLDER,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBER)

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    async def run(url: str) -> Mapping[int, Mapping[str, float]]:
        client = connect(url)
        try:
            return await measure(MemoryStore(client, count), [100, 1000, 10_000], rounds)
        finally:
            await client.aclose()

    with tempfile.TemporaryDirectory() as folder, own_redis(Path(folder), fsync) as url:
        figures = asyncio.run(run(url))
    table = Table("steps", *COLUMNS, title=f"Milliseconds per call, appendfsync {fsync}")
    for length, row in figures.items():
        table.add_row(str(length), *(f"{row[name]:.2f}" for name in COLUMNS))
    Console().print(table)
    shortest, longest = figures[min(figures)], figures[max(figures)]
    ratio = longest["append p95"] / shortest["append p95"]
    Console().print(f"append p95 at {max(figures)} steps: {ratio:.2f} of that at {min(figures)}")
    write_results("sessions", {"fsync": fsync, "rounds": rounds, "ms": figures}, out)


if __name__ == "__main__":
    typer.run(main)
