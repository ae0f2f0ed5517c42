"""Overhead of HTTP serving over the bare engine: `python -m burnish.ops.bench.serving`.

Closed-loop load of 1, 8 and 32 clients, prompts of about 128 tokens and about 64 new ones, on random
weights (lib/shapes.py): the bare engine, and a service of its own through each of its APIs over SSE,
which records every interaction durably. Lengths, seeds and cores are the same, so the difference is
the cost of HTTP, templates, recording and reading clients: those are one process on the same
machine, which stores all that arrives and reads the tokens out of it once a stream has ended (lib/sse.py). A
machine's speed drifts by more than that difference, so at the most clients short loads of both alternate
in pairs, each with the other one first, and the median of the pairs' ratios counts. CPU time per token,
by process, is the measure that holds on a busy machine. Last, the time to a stream's first event,
after short and long prompts.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from burnish.kernels.loading import load_model
from burnish.ops.bench.lib.closed_loop import (
    Ask,
    Prompt,
    Prompts,
    Window,
    compared,
    figures,
    measure,
)
from burnish.ops.bench.lib.results import FOLDER, MustShow, write_results
from burnish.ops.bench.lib.service import RunningService, run_service
from burnish.ops.bench.lib.shapes import build
from burnish.ops.bench.lib.speed.loads import CONCURRENT, PROMPT
from burnish.ops.bench.lib.sse import Client, Streamed
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from rich.console import Console

PAIRS = 10  # of loads at the most clients
MAX_RUNNING = 32
OVERHEAD_GOAL, FIRST_EVENT_GOAL_MS, ONE_STREAM_GOAL = 0.05, 50.0, 0.9
FIRST_EVENTS, LONG = 50, 1500  # streams of which the first event is timed; tokens of a long prompt
DISTINCT = 2000  # prompts of a load: more than a cache of prefixes remembers


def completions(prompt: Prompt, tokens: int, seed: int) -> dict[str, Any]:
    usage = {"stream_options": {"include_usage": True}}
    return {"prompt": list(prompt.ids), "max_tokens": tokens, "seed": seed, **usage}


def chat(prompt: Prompt, tokens: int, seed: int) -> dict[str, Any]:
    usage = {"stream_options": {"include_usage": True}}
    return {**messages(prompt, tokens, seed), "seed": seed, **usage}


def responses(prompt: Prompt, tokens: int, _: int) -> dict[str, Any]:
    return {"input": prompt.text, "max_output_tokens": max(16, tokens), "store": False}


def stored_responses(prompt: Prompt, tokens: int, seed: int) -> dict[str, Any]:
    """Each is the begin of a session of memory, words indexed: what is measured is that, too."""
    return {**responses(prompt, tokens, seed), "store": True}


def messages(prompt: Prompt, tokens: int, _: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt.text}], "max_tokens": tokens}


# Name -> path, and the request's body, less model and stream.
APIS: dict[str, tuple[str, Callable[[Prompt, int, int], dict[str, Any]]]] = {
    "completions": ("/v1/completions", completions),
    "chat": ("/v1/chat/completions", chat),
    "responses": ("/v1/responses", responses),
    "messages": ("/v1/messages", messages),
    "stored responses": ("/v1/responses", stored_responses),
}
STREAMED_AT_ONCE = (
    "chat",
    "responses",
    "messages",
)  # a completion's first event is its first token


async def bare(
    engine: LocalEngine, rows: int, seconds: float, prompts: Iterator[Prompt], seed: int
) -> Window:
    """The engine alone, driven by an event loop of this process."""

    async def ask(prompt: Prompt, tokens: int, seed: int) -> Streamed:
        params = SamplingParams(max_tokens=tokens, seed=seed)
        seen = Streamed(time.perf_counter())
        async for delta in engine.generate(Request(str(seed), prompt.ids, params)):
            seen.arrivals.append(time.perf_counter())
            seen.tokens += len(delta.token_ids)
        return seen

    await engine.start()
    try:
        return await measure(
            [ask] * rows, seconds, prompts, lambda: {"engine": time.process_time()}, seed
        )
    finally:
        await engine.stop()


async def through_http(
    service: RunningService,
    api: str,
    rows: int,
    seconds: float,
    prompts: Iterator[Prompt],
    seed: int,
) -> Window:
    """The same load over `rows` connections."""
    clients = [await Client.connect(service.url) for _ in range(rows)]

    def cpu() -> dict[str, float]:
        return {**service.cpu(), "client": time.process_time()}

    try:
        return await measure([asker(c, api) for c in clients], seconds, prompts, cpu, seed)
    finally:
        for client in clients:
            client.close()


def asker(client: Client, api: str) -> Ask:
    def ask(prompt: Prompt, tokens: int, seed: int) -> Awaitable[Streamed]:
        path, body_of = APIS[api]
        return client.stream(
            path, {"model": "default", "stream": True, **body_of(prompt, tokens, seed)}
        )

    return ask


def alternate(
    engine: LocalEngine,
    service: RunningService,
    api: str,
    rows: int,
    seconds: float,
    prompts: list[Prompt],
) -> list[tuple[Window, Window]]:
    """Pairs of loads of the bare engine and of HTTP, `seconds` in all of each."""
    alone, over, each = cycle(prompts), cycle(prompts), seconds / PAIRS

    def engine_load(seed: int) -> Window:
        return asyncio.run(bare(engine, rows, each, alone, seed))

    def http_load(seed: int) -> Window:
        return asyncio.run(through_http(service, api, rows, each, over, seed))

    pairs = []
    for seed in range(PAIRS):
        if seed % 2:
            http, engine_alone = http_load(seed), engine_load(seed)
        else:
            engine_alone, http = engine_load(seed), http_load(seed)
        pairs.append((engine_alone, http))
    return pairs


async def first_events(service: RunningService, api: str, prompts: list[Prompt]) -> float:
    """The 99th percentile of milliseconds to the first event, of one stream after the other."""
    client = await Client.connect(service.url)
    ask, waited = asker(client, api), []
    for seed, prompt in enumerate(prompts):
        seen = await ask(prompt, 1, seed)
        waited.append(seen.arrivals[0] - seen.began)
    client.close()
    return 1e3 * float(np.percentile(waited, 99))


def main(
    shape: Annotated[str, typer.Option(help="S or M.")] = "S",
    seconds: Annotated[
        float, typer.Option(help="Of load through each API, at the most clients.")
    ] = 20.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the engine.")] = 1,
    clients: Annotated[str, typer.Option(help="How many at once.")] = ",".join(
        map(str, CONCURRENT)
    ),
    out: Annotated[Path, typer.Option(help="serving.json goes here.")] = FOLDER,
) -> None:
    """Measure HTTP beside the bare engine."""
    rows = [int(n) for n in clients.split(",")]
    results: dict[str, Any] = {"shape": shape, "threads": threads, "engine": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(shape, Path(scratch) / shape)
        made, rng = Prompts(folder), np.random.default_rng(0)
        gc.freeze()  # as serving does
        engine = LocalEngine(load_model(folder), max_running=MAX_RUNNING, threads=threads)
        most, fewer = max(rows), sorted(rows)[:-1]
        for n in fewer:
            drawn = cycle(made.draw(DISTINCT, PROMPT, rng))
            window = asyncio.run(bare(engine, n, seconds / 4, drawn, 0))
            results["engine"][str(n)] = figures([window])
        env = {
            **os.environ,
            "BURNISH_MODEL": str(folder),
            "BURNISH_THREADS": str(threads),
            "BURNISH_MAX_RUNNING": str(MAX_RUNNING),
            "BURNISH_UPDATE_EVERY": "86400",
        }
        with run_service(Path(scratch) / "service", env=env) as service:
            service.wait_until_idle()
            alone: list[Window] = []
            for api in APIS:
                results[api] = {}
                for n in fewer:
                    drawn = cycle(made.draw(DISTINCT, PROMPT, rng))
                    window = asyncio.run(through_http(service, api, n, seconds / 4, drawn, 0))
                    results[api][str(n)] = figures([window])
                drawn = made.draw(DISTINCT, PROMPT, rng)
                pairs = alternate(engine, service, api, most, seconds, drawn)
                results[api][str(most)] = compared(pairs)
                alone += [window for window, _ in pairs]
                results[api]["first_event_ms_p99"] = {
                    str(tokens): asyncio.run(
                        first_events(service, api, made.draw(FIRST_EVENTS, tokens, rng))
                    )
                    for tokens in (PROMPT, LONG)
                }
    results["engine"][str(most)] = figures(alone)
    for name in ("engine", *APIS):
        for n in rows:
            Console().print(n, name, _rounded(results[name][str(n)]))
    must_show = shown(results, str(most))
    print(write_results("serving", results, out, must_show=must_show))


def shown(results: dict[str, Any], rows: str) -> list[MustShow]:
    lines = []
    for api in ("completions", *STREAMED_AT_ONCE):
        over = 1 - results[api][rows]["share_of_engine"]
        met, goal = over <= OVERHEAD_GOAL, f"<= {OVERHEAD_GOAL}"
        lines.append(MustShow(f"{api}, overhead at {rows} streams", round(over, 3), goal, met))
    if "1" in results["engine"] and rows != "1":
        alone, over = (results[name]["1"]["tokens_per_s"] for name in ("engine", "completions"))
        met, goal = over / alone >= ONE_STREAM_GOAL, f">= {ONE_STREAM_GOAL}"
        line = "completions, share of the engine's tokens a second at 1 stream"
        lines.append(MustShow(line, round(over / alone, 2), goal, met))
    for api in STREAMED_AT_ONCE:
        first = max(results[api]["first_event_ms_p99"].values())
        met, goal = first <= FIRST_EVENT_GOAL_MS, f"<= {FIRST_EVENT_GOAL_MS:.0f}"
        lines.append(MustShow(f"{api}, ms to the first event, p99", round(first, 1), goal, met))
    return lines


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}


if __name__ == "__main__":
    typer.run(main)
