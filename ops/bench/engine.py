"""Tokens a second of the engine, beside its peers in the same run: `python -m burnish.ops.bench.engine`.

Random weights of two shapes (see lib/shapes.py), prompts of 128 tokens, 64 new tokens, batches of 1,
8 and 32. Prefill is the time until every prompt has its first token, decode the time for the rest;
for peers that do not report the first token, decode is the time of 64 tokens minus that of one.
Fresh answers are the learner's load: several samples per prompt in one batch, with a candidate's
adapter (peft's for transformers' generate). The best of several rounds counts. Our figures include
scheduling, sampling, detokenisation and streaming. Peers: transformers' generate and continuous
batching, and llama.cpp where llama-cpp-python and gguf are installed (`pip install burnish[bench]`).

    python -m burnish.ops.bench.engine --shapes S,M --weights bfloat16,int8 --threads 2
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from burnish.ops.bench.lib import peers
from burnish.ops.bench.lib.peers import Peer, Timing
from burnish.ops.bench.lib.results import FOLDER, write_results
from burnish.ops.bench.lib.shapes import SHAPES, build
from rich.console import Console
from rich.table import Table

PROMPT, NEW = 128, 64
CONCURRENT = (1, 8, 32)
LORA_RANK = 16
CANDIDATE = "candidate"  # the contestant that serves only the learner's load
FRESH = (24, 4, 60)  # the learner's load: prompts, samples per prompt, tokens per sample


@contextmanager
def burnish(
    folder: Path, threads: int, weights: Any, adapters: int = 0, batch: bool = False
) -> Iterator[Peer]:
    """Our engine. Prompts are distributed over `adapters` adapters (0: the base), and streamed or, as
    the learner does, submitted as one `batch`."""
    import torch
    from burnish.kernels.loading import load_model
    from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
    from burnish.serving.engine import LocalEngine, Request, SamplingParams

    torch.set_num_threads(threads)
    model = load_model(folder, dtype="bfloat16", weights=weights)
    engine = LocalEngine(model, max_running=max(*CONCURRENT, FRESH[0] * FRESH[1]), threads=threads)
    names: list[str | None] = [None]
    if adapters:
        spec = LoraSpec(LORA_RANK, 32, default_targets(model.model))
        names = []
        for seed in range(adapters):
            fresh = init_adapter(model.model, spec, seed)
            noise = {n: torch.randn_like(t) * 0.01 for n, t in fresh.tensors.items()}
            names.append(f"v@{seed}")
            engine.set_adapter_weights(f"v@{seed}", AdapterWeights(spec, noise))

    async def timed(requests: list[Any]) -> Timing:
        began = time.perf_counter()
        arrivals: list[list[tuple[float, int]]] = [[] for _ in requests]

        async def follow(request: Any, into: list[tuple[float, int]]) -> None:
            async for delta in engine.generate(request):
                into.append((time.perf_counter() - began, len(delta.token_ids)))

        await asyncio.gather(*map(follow, requests, arrivals))
        first = max(row[0][0] for row in arrivals)
        later = sum(count for row in arrivals for at, count in row if at > first)
        return Timing(max(row[-1][0] for row in arrivals), first, later)

    def run(prompts: np.ndarray, new: int) -> Timing:
        requests = [
            Request(
                id=str(row),
                prompt_ids=tuple(prompt.tolist()),
                params=SamplingParams(max_tokens=new, seed=row, ignore_eos=True),
                adapter=names[row % len(names)],
            )
            for row, prompt in enumerate(prompts)
        ]
        if batch:
            began = time.perf_counter()
            done = engine.generate_batch(requests)
            seconds = time.perf_counter() - began
            assert all(len(answer.token_ids) == new for answer in done)
            return Timing(seconds)
        return loop.run_until_complete(timed(requests))

    loop = asyncio.new_event_loop()
    if not batch:
        loop.run_until_complete(engine.start())
    try:
        yield run
    finally:
        loop.run_until_complete(engine.stop())
        loop.close()


def contestants(weights: list[str]) -> dict[str, Any]:
    """Name -> context manager over (folder, threads)."""
    found: dict[str, Any] = {}
    for form in weights:
        found[f"burnish {form}"] = partial(burnish, weights=form)
        found[f"burnish {form}, 2 adapters"] = partial(burnish, weights=form, adapters=2)
        found[f"burnish {form}, {CANDIDATE}"] = partial(
            burnish, weights=form, adapters=1, batch=True
        )
    if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("gguf"):
        if "bfloat16" in weights:
            found["llama.cpp bf16"] = peers.llama_cpp("bf16")
        if "int8" in weights:
            found["llama.cpp q8_0"] = peers.llama_cpp("q8_0")
    found["transformers generate"] = peers.transformers_generate
    found[f"transformers generate, {CANDIDATE}"] = partial(
        peers.transformers_generate, rank=LORA_RANK
    )
    found["transformers batching"] = peers.transformers_batching
    return found


def measure(run: Peer, vocab: int, rounds: int) -> dict[str, Any]:
    """Decode and prefill tokens a second at each concurrency, the best of the rounds."""
    rng = np.random.default_rng(0)
    figures = {}
    for rows in CONCURRENT:
        decode, prefill = [], []
        for _ in range(rounds + 1):  # the first one warms up
            # Never the same prompts twice, or prefix caching would inflate our figures.
            whole = run(rng.integers(3, vocab, (rows, PROMPT)), NEW)
            if whole.prefill is None:
                prefill.append(run(rng.integers(3, vocab, (rows, PROMPT)), 1).seconds)
                decode.append(whole.seconds)
            else:
                prefill.append(whole.prefill)
                decode.append((whole.seconds - whole.prefill) / whole.decoded)
        first, rest = min(prefill[1:]), min(decode[1:])
        if whole.prefill is None:
            rest = (rest - first) / (rows * (NEW - 1))
        figures[str(rows)] = {
            "decode": round(1 / rest, 1),
            "prefill": round(rows * PROMPT / first, 1),
        }
    return figures


def measure_fresh(run: Peer, vocab: int, rounds: int) -> float:
    """New tokens a second at the learner's load, prefill included."""
    rng = np.random.default_rng(1)
    prompts, samples, new = FRESH
    took = []
    for _ in range(rounds + 1):
        asked = rng.integers(3, vocab, (prompts, PROMPT)).repeat(samples, axis=0)
        took.append(run(asked, new).seconds)
    return round(len(asked) * new / min(took[1:]), 1)


def read_bandwidth() -> float:
    """Read bandwidth of all threads together in GB/s, on memory far larger than the caches."""
    import torch

    big = torch.ones(1 << 28)  # 1 GiB
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        big.sum()
        best = max(best, big.nbytes / (time.perf_counter() - began) / 1e9)
    return round(best, 1)


def main(
    shapes: Annotated[str, typer.Option(help="Comma-separated: S, M.")] = "S,M",
    weights: Annotated[str, typer.Option(help="Of ours: bfloat16, int8, ...")] = "bfloat16,int8",
    only: Annotated[str, typer.Option(help="Only contestants whose name has one of these.")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads of each.")] = 2,
    rounds: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
    out: Annotated[Path, typer.Option(help="engine.json and engine.png go here.")] = FOLDER,
) -> None:
    """Measure everyone, one after the other."""
    import torch

    torch.set_num_threads(threads)
    results: dict[str, Any] = {"threads": threads, "read_gb_s": read_bandwidth(), "shapes": {}}
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        for shape in shapes.split(","):
            folder = build(shape, Path(scratch) / shape)
            rows: dict[str, Any] = {}
            results["shapes"][shape] = rows
            for name, open_peer in contestants(weights.split(",")).items():
                if not any(part in name for part in only.split(",")):
                    continue
                with contextlib.ExitStack() as stack:
                    try:
                        run = stack.enter_context(open_peer(folder, threads))
                        vocab = int(SHAPES[shape]["vocab_size"])
                        rows[name] = {}
                        if CANDIDATE not in name:
                            rows[name] = measure(run, vocab, rounds)
                        if CANDIDATE in name or name == "transformers generate":
                            rows[name]["fresh"] = measure_fresh(run, vocab, rounds)
                    except Exception as error:  # noqa: BLE001 - a failing peer is a result as well
                        rows[name] = {"error": f"{type(error).__name__}: {error}"}
                console.print(shape, name, rows[name])
            console.print(_table(shape, rows))
    write_results("engine", results, out)
    _plot(results, out / "engine.png")


def _table(shape: str, rows: dict[str, Any]) -> Table:
    table = Table(title=f"{shape}: tokens a second")
    table.add_column("")
    for n in CONCURRENT:
        table.add_column(f"decode, {n}")
    table.add_column(f"prefill, {CONCURRENT[-1]}")
    table.add_column(f"fresh answers, {FRESH[0]} x {FRESH[1]}")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, str(row["error"]))
        else:
            speeds = [row.get(str(n), {}).get("decode") for n in CONCURRENT]
            speeds += [row.get(str(CONCURRENT[-1]), {}).get("prefill"), row.get("fresh")]
            table.add_row(name, *("" if s is None else f"{s:,.0f}" for s in speeds))
    return table


def _plot(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = results["shapes"]
    size = (6 * len(shapes), 4.8)
    figure, axes = plt.subplots(1, len(shapes), figsize=size, squeeze=False, layout="constrained")
    for axis, (shape, rows) in zip(axes[0], shapes.items(), strict=True):
        for name, row in rows.items():
            if str(CONCURRENT[0]) in row:
                speeds = [row[str(n)]["decode"] for n in CONCURRENT]
                style = "-" if name.startswith("burnish") else "--"
                axis.plot(CONCURRENT, speeds, style, marker="o", label=name)
        axis.set(title=f"model {shape}", xlabel="answers at once", xscale="log", yscale="log")
        axis.set_xticks(CONCURRENT, [str(n) for n in CONCURRENT])
        axis.minorticks_off()
        axis.set_ylabel("new tokens a second, all together")
        axis.grid(alpha=0.3)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    typer.run(main)
