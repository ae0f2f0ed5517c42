"""Speed of the engine, beside its peers in the same run: `python -m burnish.ops.bench.engine`.

Random weights of several shapes (lib/shapes.py), each measured on every instruction set that the
machine runs, then llama.cpp (where llama-cpp-python and gguf are installed, `pip install
burnish[bench]`) and transformers on the same weights. Decode is the time after every prompt is read,
at 1, 8 and 32 answers at once: of ours, from the request to go on to its last token; of peers that do
not tell, the time of all tokens minus that of one. Fresh answers are the learner's load: several samples per prompt in one
batch, with a candidate's adapter (peft's for transformers). The best of several rounds counts. Our
figures include scheduling, sampling, detokenisation and streaming.

The machine's read bandwidth and FMA peak are measured in the same run (lib/speed/roofline.py), our chosen
way against PyTorch's (lib/speed/ways.py), and with `--model FOLDER` a real model over HTTP
(lib/speed/one_stream.py). Figures are kept as they come: a run of some shapes or parts replaces these and
keeps the rest of the file, if commit and machine are the same.

    python -m burnish.ops.bench.engine --shapes S,M --weights bfloat16,int8 --threads 2
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.kernels.cpu.library import cache_folder
from burnish.kernels.cpu.target import available
from burnish.ops.bench.lib.results import FOLDER, MACHINE, differences, merged, write_results
from burnish.ops.bench.lib.service import BenchError
from burnish.ops.bench.lib.shapes import SHAPES, build
from burnish.ops.bench.lib.speed import contest, report
from burnish.ops.bench.lib.speed.contest import Plan
from burnish.ops.bench.lib.speed.goals import lines
from burnish.ops.bench.lib.speed.loads import HELD_PEERS, LLAMA_CPP, LOADS, PARTS, PEERS
from burnish.ops.bench.lib.speed.one_stream import measure_stream
from burnish.ops.bench.lib.speed.roofline import best_of, shares
from burnish.ops.settings import EMBER
from rich.console import Console

# What holds torch, oneDNN and MKL to the instruction set that our kernels are held to.
HELD: dict[str, dict[str, str]] = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
NOT_ASKED = "sse"  # runs everywhere, and is measured only if it is named


def main(
    shapes: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(LOADS),
    isas: Annotated[str, typer.Option(help="Instruction sets; default: all but sse.")] = "",
    weights: Annotated[str, typer.Option(help="Of ours.")] = ",".join(LLAMA_CPP),
    parts: Annotated[str, typer.Option(help="Of the benchmark.")] = ",".join(PARTS),
    peers: Annotated[bool, typer.Option(help="Measure llama.cpp and transformers, too.")] = True,
    only: Annotated[str, typer.Option(help="Only contestants whose name has one of these.")] = "",
    model: Annotated[Path | None, typer.Option(help="A real model's folder, over HTTP.")] = None,
    llama_avx2: Annotated[
        Path | None,
        typer.Option(
            help="A folder with a llama-cpp-python built for AVX2 alone (pip install --target), with"
            " which ours is compared where it is held to AVX2 on a wider machine."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of each.")] = 2,
    rounds: Annotated[int, typer.Option(help="Timed rounds at least.")] = 2,
    seconds: Annotated[float, typer.Option(help="In which further rounds may begin.")] = 4.0,
    scratch: Annotated[
        Path | None, typer.Option(help="Keeps models and packed weights for the next run.")
    ] = None,
    out: Annotated[Path, typer.Option(help="engine.json and the plots go here.")] = FOLDER,
) -> None:
    """Measure everyone, one after the other."""
    chosen = _names("shapes", shapes, LOADS)
    targets = _names("isas", isas, available()) or [t for t in available() if t != NOT_ASKED]
    asked = {
        "threads": threads,
        "weights": tuple(_names("weights", weights, LLAMA_CPP)),
        "parts": tuple(_names("parts", parts, PARTS)),
        "only": tuple(only.split(",")),
        "rounds": rounds,
        "seconds": seconds,
    }
    results = _earlier(out / "engine.json", threads)
    with contextlib.ExitStack() as stack:
        if scratch is None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch = scratch.resolve()
        env = _environment(scratch, threads)
        for shape in chosen:
            folder = build(shape, scratch / shape) if shape in SHAPES else EMBER
            others = [PEERS, *([HELD_PEERS] if llama_avx2 and "avx2" in targets else [])]
            for target in [*targets, *(others if peers and LOADS[shape].contests else [])]:
                plan = Plan(shape=shape, folder=str(folder), target=target, **asked)
                cell = _contest(plan, env, llama_avx2)
                if machine := cell.pop("machine", None):
                    before = results["machines"].get(target, {})
                    results["machines"][target] = best_of(before, machine)
                results = merged(results, {"shapes": {shape: {target: cell}}})
                _keep(results, out)
            report.print_shape(results, shape)
        if model is not None:
            results["one stream"] = _one_stream(model, scratch, env)
            Console().print(results["one stream"])
    report.print_must_show(_keep(results, out))
    report.plot_speeds(results, out / "engine.png")
    report.plot_roofline(results, out / "roofline.png")


def _names(option: str, given: str, known: Any) -> list[str]:
    names = [name for name in given.split(",") if name]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name} is none of {', '.join(known)}", param_hint=option)
    return names


def _earlier(path: Path, threads: int) -> dict[str, Any]:
    """The file's figures, if they were measured on this code, machine and number of threads."""
    fresh: dict[str, Any] = {"threads": threads, "machines": {}, "shapes": {}}
    if not path.is_file():
        return fresh
    before = json.loads(path.read_text())
    changed = differences(before["machine"], MACHINE)
    if before.get("threads") != threads:
        changed.append(f"threads were {before.get('threads')} and are {threads}")
    if changed:
        Console().print(f"{path} is written anew: {'; '.join(changed)}")
        return fresh
    return {name: value for name, value in before.items() if name not in ("machine", "must_show")}


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    """Of all processes. Packed weights lie in `scratch`, so that they do not drive out the user's."""
    cache = scratch / "cache"
    (cache / "burnish").mkdir(parents=True, exist_ok=True)
    for built in cache_folder().glob("native-*.so"):
        if not (cache / "burnish" / built.name).exists():  # it may be mapped
            shutil.copy(built, cache / "burnish")
    own = {name: value for name, value in os.environ.items() if name != "BURNISH_CPU"}
    return {**own, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": str(threads)}


def _contest(plan: Plan, env: dict[str, str], llama_avx2: Path | None) -> dict[str, Any]:
    """Measure in a process of its own; what it had measured stays, even if it dies."""
    held = {"BURNISH_CPU": plan.target, **HELD.get(plan.target, {})}
    if plan.target == HELD_PEERS:
        held = {"PYTHONPATH": str(llama_avx2), **HELD["avx2"]}
    elif plan.target in (PEERS, available()[0]):
        held = {}  # the best is what everyone takes unasked; forced, it would not be a choice
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "plan.json", Path(folder) / "told.json"
        plan.write(asked)
        command = [sys.executable, "-m", contest.__name__, str(asked), str(told)]
        ended = subprocess.run(command, env={**env, **held}, check=False).returncode
        cell = json.loads(told.read_text()) if told.is_file() else {}
    if ended:
        cell["error"] = f"the process ended with {ended}"
        Console().print(plan.shape, plan.target, cell["error"])
    return cell


def _one_stream(model: Path, scratch: Path, env: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            return measure_stream(model, Path(folder), env)
        except BenchError as error:
            return {"error": str(error)}


def _keep(results: dict[str, Any], out: Path) -> list[Any]:
    """Write what there is, and return what must be shown of it."""
    results["shares"] = shares(results)
    shown = lines(results)
    write_results("engine", results, out, must_show=shown)
    return shown


if __name__ == "__main__":
    typer.run(main)
