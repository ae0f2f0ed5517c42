"""A thousand swaps under 32 streams: `python -m burnish.ops.bench.flips`.

The engine alone: 32 clients stream without a pause while adapter versions are swapped. One swap loads
the next version, switches new requests to it, and unloads the previous one. Every answer must equal,
token by token, that of the version it began with, and none may fail. The longest gap between two
deltas is reported next to that of the same load without swaps, and to a decode step. `swaps.py` does
fewer swaps, but through HTTP, registry and aliases.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from burnish.kernels.loading import load_model
from burnish.kernels.lora import (
    AdapterWeights,
    LoraSpec,
    default_targets,
    init_adapter,
    save_adapter,
)
from burnish.ops.bench.lib.results import FOLDER, print_figures, write_results
from burnish.ops.bench.lib.shapes import SHAPES, build
from burnish.serving.engine import EngineError, LocalEngine, Request, SamplingParams

VERSIONS, PROMPTS, RANK, NOISE = 4, 8, 16, 0.05
PROMPT = 32  # tokens


@dataclass
class LoadResult:
    """What the clients of one load observed."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: int = 0
    gaps: list[float] = field(default_factory=list)  # seconds between deltas of one answer
    spanning: int = 0  # answers during which the champion changed


class Champion:
    """The version that new requests use, and the number of swaps so far."""

    def __init__(self) -> None:
        self.version = 0
        self.swaps = 0


def write_versions(engine: LocalEngine, folder: Path, seed: int = 0) -> list[Path]:
    """Adapter folders with random weights; their content does not matter to a swap."""
    import torch

    spec = LoraSpec(RANK, 2.0 * RANK, default_targets(engine.model.model))
    folders = []
    for number in range(VERSIONS):
        torch.manual_seed(seed + number)
        fresh = init_adapter(engine.model.model, spec, number)
        noisy = {name: t + NOISE * torch.randn_like(t) for name, t in fresh.tensors.items()}
        folders.append(save_adapter(AdapterWeights(spec, noisy), folder / str(number), "bench"))
    return folders


def make_request(number: int, adapter: str, tokens: int, vocab: int) -> Request:
    """Request number `number`: one of PROMPTS prompts, each with its own seed."""
    prompt = np.random.default_rng(number % PROMPTS).integers(3, vocab, PROMPT).tolist()
    params = SamplingParams(max_tokens=tokens, seed=number % PROMPTS, ignore_eos=True)
    return Request(str(number), tuple(prompt), params, adapter)


def expected_answers(
    engine: LocalEngine, folders: Sequence[Path], tokens: int, vocab: int
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Reference answers: (version, prompt) -> tokens. Leaves no version loaded."""
    expected = {}
    for version, folder in enumerate(folders):
        engine.load_adapter(f"p@{version}", folder)
        requests = [make_request(at, f"p@{version}", tokens, vocab) for at in range(PROMPTS)]
        for at, answer in enumerate(engine.generate_batch(requests)):
            expected[version, at] = answer.token_ids
        engine.unload_adapter(f"p@{version}")
    return expected


async def client(
    engine: LocalEngine, champion: Champion, numbers: Any, done: asyncio.Event,
    expected: dict[tuple[int, int], tuple[int, ...]], tokens: int, vocab: int, result: LoadResult,
) -> None:  # fmt: skip
    """Send a request, read its answer and compare it with the reference, until `done`."""
    while not done.is_set():
        number, version, swaps = next(numbers), champion.version, champion.swaps
        received: list[int] = []
        last = None
        try:
            async for delta in engine.generate(make_request(number, f"p@{version}", tokens, vocab)):
                now = time.perf_counter()
                if last is not None:
                    result.gaps.append(now - last)
                last = now
                received += delta.token_ids
        except EngineError as error:
            result.failures.append(f"{type(error).__name__}: {error}")
            continue
        result.answers += 1
        result.spanning += champion.swaps != swaps
        result.mixed += tuple(received) != expected[version, number % PROMPTS]


async def swap(engine: LocalEngine, champion: Champion, folders: Sequence[Path]) -> None:
    """Load the next version, make it the champion, unload the previous one."""
    old, new = champion.version, (champion.version + 1) % VERSIONS
    await asyncio.to_thread(engine.load_adapter, f"p@{new}", folders[new])
    champion.version = new
    champion.swaps += 1
    await asyncio.to_thread(engine.unload_adapter, f"p@{old}")


async def load(
    engine: LocalEngine, folders: Sequence[Path], expected: dict[tuple[int, int], tuple[int, ...]],
    *, clients: int, tokens: int, vocab: int, swaps: int, seconds: float,
) -> tuple[LoadResult, list[float]]:  # fmt: skip
    """Run clients for `seconds`, or during `swaps` swaps; returns the seconds of each swap as well."""
    champion, result, done, took = Champion(), LoadResult(), asyncio.Event(), []
    await engine.start()
    await asyncio.to_thread(engine.load_adapter, "p@0", folders[0])
    numbers = itertools.count()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(
                client(engine, champion, numbers, done, expected, tokens, vocab, result)
            )
        if swaps:
            while champion.swaps < swaps:
                began = time.perf_counter()
                await swap(engine, champion, folders)
                took.append(time.perf_counter() - began)
        else:
            await asyncio.sleep(seconds)
        done.set()
    engine.unload_adapter(f"p@{champion.version}")
    await engine.stop()
    return result, took


def figures_of(
    calm: LoadResult, busy: LoadResult, took: Sequence[float], step: float
) -> dict[str, Any]:
    def ms(values: Sequence[float], percentile: float) -> float:
        return 1e3 * float(np.percentile(values, percentile))

    return {
        "swaps": len(took),
        "answers": busy.answers,
        "answers_through_a_swap": busy.spanning,
        "failed": len(busy.failures),
        "failures": busy.failures[:5],
        "mixed": busy.mixed,
        "decode_step_ms": 1e3 * step,
        "gap_ms_p50": ms(busy.gaps, 50),
        "gap_ms_p50_without_swaps": ms(calm.gaps, 50),
        "gap_ms_p99": ms(busy.gaps, 99),
        "gap_ms_p99_without_swaps": ms(calm.gaps, 99),
        "longest_gap_ms": ms(busy.gaps, 100),
        "longest_gap_ms_without_swaps": ms(calm.gaps, 100),
        "swap_ms_p50": ms(took, 50),
        "swap_ms_max": ms(took, 100),
    }


def decode_step(engine: LocalEngine, clients: int, tokens: int, vocab: int) -> float:
    """Seconds of one decode step with `clients` rows."""
    requests = [make_request(at, "", tokens, vocab) for at in range(clients)]
    requests = [Request(r.id, r.prompt_ids, r.params) for r in requests]
    engine.generate_batch(requests)
    began, before = time.perf_counter(), engine.stats().tokens_total
    engine.generate_batch(requests)
    made = engine.stats().tokens_total - before
    return (time.perf_counter() - began) / (made / clients)


def measure(
    model: Path, *, swaps: int, clients: int, tokens: int, seconds: float, threads: int | None
) -> dict[str, Any]:
    """The benchmark's figures for a model folder."""
    engine = LocalEngine(load_model(model), max_running=clients, threads=threads)
    vocab = int(engine.model.config.vocab_size)
    step = decode_step(engine, clients, tokens, vocab)
    with tempfile.TemporaryDirectory() as scratch:
        folders = write_versions(engine, Path(scratch))
        expected = expected_answers(engine, folders, tokens, vocab)
        gc.collect()
        gc.freeze()  # as serving does
        shared: Any = {"clients": clients, "tokens": tokens, "vocab": vocab}
        calm, _ = asyncio.run(load(engine, folders, expected, **shared, swaps=0, seconds=seconds))
        busy, took = asyncio.run(load(engine, folders, expected, **shared, swaps=swaps, seconds=0))
    return figures_of(calm, busy, took, step)


def main(
    swaps: Annotated[int, typer.Option(help="How many.")] = 1000,
    clients: Annotated[int, typer.Option(help="Streams at a time.")] = 32,
    tokens: Annotated[int, typer.Option(help="Length of an answer.")] = 64,
    seconds: Annotated[float, typer.Option(help="Of the same load without swaps.")] = 15.0,
    threads: Annotated[int, typer.Option(help="CPU threads of the engine.")] = 1,
    shape: Annotated[str, typer.Option(help="S or M, random weights.")] = "S",
    out: Annotated[Path, typer.Option(help="flips.json goes here.")] = FOLDER,
) -> None:
    """Exit code 1 when a request failed or an answer mixed versions."""
    if shape not in SHAPES:
        raise typer.BadParameter(f"{shape} is none of {', '.join(SHAPES)}")
    with tempfile.TemporaryDirectory() as scratch:
        figures = measure(
            build(shape, Path(scratch)), swaps=swaps, clients=clients, tokens=tokens,
            seconds=seconds, threads=threads,
        )  # fmt: skip
    print_figures("versions that come and go under streams", figures)
    print(write_results("flips", {"shape": shape, "clients": clients, **figures}, out))
    raise typer.Exit(1 if figures["failed"] or figures["mixed"] else 0)


if __name__ == "__main__":
    typer.run(main)
