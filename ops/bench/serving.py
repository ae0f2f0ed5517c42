"""The same through HTTP: `python -m burnish.ops.bench.serving`.

Streams over SSE from a service of the bench's own, 1, 8 and 32 at once, prompts of 128 tokens and 64
new ones, on random weights (see shapes.py): tokens a second, time to the first token, time per
further token. Beside it the bare engine on the same prompts, one after the other on the same cores;
the difference is HTTP, recording every interaction durably, and the client itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import numpy as np
import typer
from burnish.ops.bench.engine import CONCURRENT, NEW, PROMPT, burnish
from burnish.ops.bench.results import FOLDER, keep
from burnish.ops.bench.service import running
from burnish.ops.bench.shapes import SHAPES, build
from rich.console import Console


@dataclass
class Streamed:
    """One answer as its client saw it: when each piece came, and how many tokens it had."""

    began: float
    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0


async def stream(client: httpx.AsyncClient, prompt: list[int], seed: int) -> Streamed:
    """POST /v1/completions with stream; the tokens are those that usage counts."""
    body = {
        "model": "default",
        "prompt": prompt,
        "max_tokens": NEW,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    seen = Streamed(time.perf_counter())
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            seen.arrivals.append(time.perf_counter())
            if '"usage":{' in line.replace(" ", ""):
                seen.tokens = json.loads(line[6:])["usage"]["completion_tokens"]
    return seen


async def load(url: str, rows: int, seconds: float, vocab: int) -> dict[str, float]:
    """`rows` clients that start the next stream when one is done."""
    rng = np.random.default_rng(rows)
    done: list[Streamed] = []
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:

        async def one(until: float) -> None:
            while time.perf_counter() < until:
                prompt = rng.integers(3, vocab, PROMPT).tolist()
                done.append(await stream(client, prompt, int(rng.integers(1 << 30))))

        await asyncio.gather(*(one(time.perf_counter() + 2) for _ in range(rows)))  # warm
        done.clear()
        began = time.perf_counter()
        await asyncio.gather(*(one(began + seconds) for _ in range(rows)))
        took = time.perf_counter() - began
    firsts = [s.arrivals[0] - s.began for s in done]
    each = [(s.arrivals[-1] - s.arrivals[0]) / (s.tokens - 1) for s in done if s.tokens > 1]
    return {
        "answers": len(done),
        "tokens_per_s": sum(s.tokens for s in done) / took,
        "first_token_ms_p50": 1e3 * float(np.percentile(firsts, 50)),
        "first_token_ms_p99": 1e3 * float(np.percentile(firsts, 99)),
        "per_token_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "per_token_ms_p99": 1e3 * float(np.percentile(each, 99)),
    }


def bare(folder: Path, threads: int, vocab: int) -> dict[str, float]:
    """Tokens a second of the engine alone, prefill included, as the load above has it."""
    rng = np.random.default_rng(0)
    figures = {}
    with burnish(folder, threads, "auto") as run:
        for rows in CONCURRENT:
            run(rng.integers(3, vocab, (rows, PROMPT)), NEW)
            rounds = max(3, 96 // rows)
            took = sum(
                run(rng.integers(3, vocab, (rows, PROMPT)), NEW).seconds for _ in range(rounds)
            )
            figures[str(rows)] = rounds * rows * NEW / took
    return figures


def main(
    shape: Annotated[str, typer.Option(help="S or M.")] = "S",
    seconds: Annotated[float, typer.Option(help="Of load at each concurrency.")] = 20.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the engine.")] = 1,
    out: Annotated[Path, typer.Option(help="serving.json goes here.")] = FOLDER,
) -> None:
    """Measure HTTP beside the bare engine."""
    vocab = int(SHAPES[shape]["vocab_size"])
    results: dict[str, Any] = {"shape": shape, "threads": threads, "http": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(shape, Path(scratch) / shape)
        results["engine_tokens_per_s"] = bare(folder, threads, vocab)
        env = {
            **os.environ,
            "BURNISH_MODEL": str(folder),
            "BURNISH_THREADS": str(threads),
            "BURNISH_UPDATE_EVERY": "86400",
        }
        with running(Path(scratch) / "service", env=env) as service:
            for rows in CONCURRENT:
                results["http"][str(rows)] = asyncio.run(load(service.url, rows, seconds, vocab))
    for rows in CONCURRENT:
        line, alone = results["http"][str(rows)], results["engine_tokens_per_s"][str(rows)]
        line["share_of_engine"] = line["tokens_per_s"] / alone
        Console().print(
            rows, f"engine {alone:,.0f} tok/s", {k: round(v, 2) for k, v in line.items()}
        )
    keep("serving", results, out)


if __name__ == "__main__":
    typer.run(main)
