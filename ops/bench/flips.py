"""A thousand swaps under 32 streams: `python -m burnish.ops.bench.flips`.

The engine alone, as serving drives it: 32 clients stream without a pause while versions come and
go. One swap loads a version beside the others, flips what new requests ask for, and unloads the one
before. Every answer must be, token by token, what the version it began with says; none may fail; and
the longest gap between two deltas is set beside that of the same load without swaps, and beside a
decode step. `swaps.py` does fewer of them through HTTP, registry and aliases.
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
from burnish.ops.bench.lib.results import FOLDER, keep, show
from burnish.ops.bench.lib.shapes import SHAPES, build
from burnish.serving.engine import EngineError, LocalEngine, Request, SamplingParams

VERSIONS, PROMPTS, RANK, NOISE = 4, 8, 16, 0.05
PROMPT = 32  # tokens


@dataclass
class Seen:
    """What the clients of one load met."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: int = 0
    gaps: list[float] = field(default_factory=list)  # seconds between deltas of one answer
    survivors: int = 0  # answers that saw the champion change


class Champion:
    """Which version new requests ask for."""

    def __init__(self) -> None:
        self.version = 0
        self.swaps = 0


def write_versions(engine: LocalEngine, folder: Path, seed: int = 0) -> list[Path]:
    """Adapters of noise, as folders; what is learnt does not matter to a swap."""
    import torch

    spec = LoraSpec(RANK, 2.0 * RANK, default_targets(engine.model.model))
    folders = []
    for number in range(VERSIONS):
        torch.manual_seed(seed + number)
        fresh = init_adapter(engine.model.model, spec, number)
        noisy = {name: t + NOISE * torch.randn_like(t) for name, t in fresh.tensors.items()}
        folders.append(save_adapter(AdapterWeights(spec, noisy), folder / str(number), "bench"))
    return folders


def question(number: int, adapter: str, tokens: int, vocab: int) -> Request:
    """One of PROMPTS questions; its seed is its own."""
    prompt = np.random.default_rng(number % PROMPTS).integers(3, vocab, PROMPT).tolist()
    params = SamplingParams(max_tokens=tokens, seed=number % PROMPTS, ignore_eos=True)
    return Request(str(number), tuple(prompt), params, adapter)


def what_they_say(
    engine: LocalEngine, folders: Sequence[Path], tokens: int, vocab: int
) -> dict[tuple[int, int], tuple[int, ...]]:
    """The right answers: (version, question) -> tokens. Leaves no version resident."""
    said = {}
    for version, folder in enumerate(folders):
        engine.load_adapter(f"p@{version}", folder)
        requests = [question(at, f"p@{version}", tokens, vocab) for at in range(PROMPTS)]
        for at, answer in enumerate(engine.generate_batch(requests)):
            said[version, at] = answer.token_ids
        engine.unload_adapter(f"p@{version}")
    return said


async def client(
    engine: LocalEngine, champion: Champion, numbers: Any, done: asyncio.Event,
    said: dict[tuple[int, int], tuple[int, ...]], tokens: int, vocab: int, seen: Seen,
) -> None:  # fmt: skip
    """Ask, read, compare; again until `done`."""
    while not done.is_set():
        number, version, swaps = next(numbers), champion.version, champion.swaps
        got: list[int] = []
        last = None
        try:
            async for delta in engine.generate(question(number, f"p@{version}", tokens, vocab)):
                now = time.perf_counter()
                if last is not None:
                    seen.gaps.append(now - last)
                last = now
                got += delta.token_ids
        except EngineError as error:
            seen.failures.append(f"{type(error).__name__}: {error}")
            continue
        seen.answers += 1
        seen.survivors += champion.swaps != swaps
        seen.mixed += tuple(got) != said[version, number % PROMPTS]


async def swap(engine: LocalEngine, champion: Champion, folders: Sequence[Path]) -> None:
    """Load the next version, point at it, retire the one before."""
    old, new = champion.version, (champion.version + 1) % VERSIONS
    await asyncio.to_thread(engine.load_adapter, f"p@{new}", folders[new])
    champion.version = new
    champion.swaps += 1
    await asyncio.to_thread(engine.unload_adapter, f"p@{old}")


async def load(
    engine: LocalEngine, folders: Sequence[Path], said: dict[tuple[int, int], tuple[int, ...]],
    *, clients: int, tokens: int, vocab: int, swaps: int, seconds: float,
) -> tuple[Seen, list[float]]:  # fmt: skip
    """Clients for so many seconds, or for as long as so many swaps take; seconds of each swap."""
    champion, seen, done, took = Champion(), Seen(), asyncio.Event(), []
    await engine.start()
    await asyncio.to_thread(engine.load_adapter, "p@0", folders[0])
    numbers = itertools.count()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(engine, champion, numbers, done, said, tokens, vocab, seen))
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
    return seen, took


def figures_of(calm: Seen, busy: Seen, took: Sequence[float], step: float) -> dict[str, Any]:
    def ms(values: Sequence[float], percentile: float) -> float:
        return 1e3 * float(np.percentile(values, percentile))

    return {
        "swaps": len(took),
        "answers": busy.answers,
        "answers_through_a_swap": busy.survivors,
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
    """Seconds of one step in which so many rows decode."""
    requests = [question(at, "", tokens, vocab) for at in range(clients)]
    requests = [Request(r.id, r.prompt_ids, r.params) for r in requests]
    engine.generate_batch(requests)
    began, before = time.perf_counter(), engine.stats().tokens_total
    engine.generate_batch(requests)
    made = engine.stats().tokens_total - before
    return (time.perf_counter() - began) / (made / clients)


def measure(
    model: Path, *, swaps: int, clients: int, tokens: int, seconds: float, threads: int | None
) -> dict[str, Any]:
    """The whole bench on a model folder."""
    engine = LocalEngine(load_model(model), max_running=clients, threads=threads)
    vocab = int(engine.model.config.vocab_size)
    step = decode_step(engine, clients, tokens, vocab)
    with tempfile.TemporaryDirectory() as scratch:
        folders = write_versions(engine, Path(scratch))
        said = what_they_say(engine, folders, tokens, vocab)
        gc.collect()
        gc.freeze()  # as serving does
        shared: Any = {"clients": clients, "tokens": tokens, "vocab": vocab}
        calm, _ = asyncio.run(load(engine, folders, said, **shared, swaps=0, seconds=seconds))
        busy, took = asyncio.run(load(engine, folders, said, **shared, swaps=swaps, seconds=0))
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
    show("versions that come and go under streams", figures)
    print(keep("flips", {"shape": shape, "clients": clients, **figures}, out))
    raise typer.Exit(1 if figures["failed"] or figures["mixed"] else 0)


if __name__ == "__main__":
    typer.run(main)
