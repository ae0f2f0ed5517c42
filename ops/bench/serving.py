"""Overhead of HTTP serving over the bare engine: `python -m burnish.ops.bench.serving`.

Closed-loop load of 1, 8 and 32 clients, prompts of 128 tokens and about 64 new ones, on random
weights (lib/shapes.py): first the bare engine, then a service of its own through /v1/completions
over SSE, which records every interaction durably. Prompts, seeds and cores are the same, so the
difference is the cost of HTTP, recording and reading clients (lib/sse.py). CPU time per token, by
process, is the measure that holds on a busy machine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from burnish.kernels.loading import load_model
from burnish.ops.bench.engine import CONCURRENT, NEW, PROMPT
from burnish.ops.bench.lib.results import FOLDER, write_results
from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.ops.bench.lib.shapes import SHAPES, build
from burnish.ops.bench.lib.sse import Client, Streamed
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from rich.console import Console

WARM_S = 2.0
MAX_RUNNING = 32

Ask = Callable[[list[int], int, int], Awaitable[Streamed]]
"""Sends one request (prompt, max tokens, seed) and reads the answer."""


async def load(
    asks: list[Ask], seconds: float, vocab: int, rng: np.random.Generator
) -> list[Streamed]:
    """Closed-loop load: each client sends its next request once the previous one is answered."""
    seen: list[Streamed] = []

    async def client(ask: Ask, until: float) -> None:
        while time.perf_counter() < until:
            prompt = rng.integers(3, vocab, PROMPT).tolist()
            # Of different lengths, or all answers would start and end in lockstep.
            tokens = int(rng.integers(NEW // 2, NEW * 3 // 2 + 1))
            seen.append(await ask(prompt, tokens, int(rng.integers(1 << 30))))

    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(ask, until) for ask in asks))
    return seen


async def measure(
    asks: list[Ask], seconds: float, vocab: int, cpu: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Figures of one load; `cpu` returns the CPU seconds used so far by each process."""
    rng = np.random.default_rng(len(asks))
    await load(asks, WARM_S, vocab, rng)
    before, began = cpu(), time.perf_counter()
    seen = await load(asks, seconds, vocab, rng)
    took, after = time.perf_counter() - began, cpu()
    tokens = sum(s.tokens for s in seen)
    firsts = [s.arrivals[0] - s.began for s in seen]
    each = [(s.arrivals[-1] - s.arrivals[0]) / (s.tokens - 1) for s in seen if s.tokens > 1]
    return {
        "answers": len(seen),
        "tokens_per_s": tokens / took,
        "first_token_ms_p50": 1e3 * float(np.percentile(firsts, 50)),
        "first_token_ms_p99": 1e3 * float(np.percentile(firsts, 99)),
        "per_token_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "per_token_ms_p99": 1e3 * float(np.percentile(each, 99)),
        "cpu_us_per_token": {
            name: round(1e6 * (after[name] - before[name]) / tokens, 1) for name in after
        },
    }


async def bare(engine: LocalEngine, rows: int, seconds: float, vocab: int) -> dict[str, Any]:
    """The engine alone, driven by an event loop of this process."""

    async def ask(prompt: list[int], tokens: int, seed: int) -> Streamed:
        params = SamplingParams(max_tokens=tokens, seed=seed)
        seen = Streamed(time.perf_counter())
        async for delta in engine.generate(Request(str(seed), tuple(prompt), params)):
            seen.arrivals.append(time.perf_counter())
            seen.tokens += len(delta.token_ids)
        return seen

    await engine.start()
    try:
        return await measure([ask] * rows, seconds, vocab, lambda: {"engine": time.process_time()})
    finally:
        await engine.stop()


async def through_http(
    service: RunningService, rows: int, seconds: float, vocab: int
) -> dict[str, Any]:
    """The same requests over `rows` connections."""
    clients = [await Client.connect(service.url) for _ in range(rows)]

    def asker(client: Client) -> Ask:
        async def ask(prompt: list[int], tokens: int, seed: int) -> Streamed:
            body = {"model": "default", "prompt": prompt, "max_tokens": tokens, "seed": seed}
            usage = {"stream": True, "stream_options": {"include_usage": True}}
            return await client.stream("/v1/completions", {**body, **usage})

        return ask

    def cpu() -> dict[str, float]:
        return {**service.cpu(), "client": time.process_time()}

    try:
        return await measure(list(map(asker, clients)), seconds, vocab, cpu)
    finally:
        for client in clients:
            client.close()


def main(
    shape: Annotated[str, typer.Option(help="S or M.")] = "S",
    seconds: Annotated[float, typer.Option(help="Of load at each concurrency.")] = 20.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the engine.")] = 1,
    clients: Annotated[str, typer.Option(help="How many at once.")] = ",".join(
        map(str, CONCURRENT)
    ),
    out: Annotated[Path, typer.Option(help="serving.json goes here.")] = FOLDER,
) -> None:
    """Measure HTTP beside the bare engine."""
    vocab, rows = int(SHAPES[shape]["vocab_size"]), [int(n) for n in clients.split(",")]
    results: dict[str, Any] = {"shape": shape, "threads": threads, "engine": {}, "http": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(shape, Path(scratch) / shape)
        gc.freeze()  # as serving does
        engine = LocalEngine(load_model(folder), max_running=MAX_RUNNING, threads=threads)
        for n in rows:
            results["engine"][str(n)] = asyncio.run(bare(engine, n, seconds, vocab))
        del engine
        env = {
            **os.environ,
            "BURNISH_MODEL": str(folder),
            "BURNISH_THREADS": str(threads),
            "BURNISH_MAX_RUNNING": str(MAX_RUNNING),
            "BURNISH_UPDATE_EVERY": "86400",
        }
        with run_service(Path(scratch) / "service", env=env) as service:
            service.wait_until_idle()
            for n in rows:
                results["http"][str(n)] = asyncio.run(through_http(service, n, seconds, vocab))
    for n in rows:
        alone, line = results["engine"][str(n)], results["http"][str(n)]
        line["share_of_engine"] = line["tokens_per_s"] / alone["tokens_per_s"]
        Console().print(n, "engine", _rounded(alone))
        Console().print(n, "HTTP", _rounded(line))
    write_results("serving", results, out)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}


if __name__ == "__main__":
    typer.run(main)
