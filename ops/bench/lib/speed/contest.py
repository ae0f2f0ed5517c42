"""One process of the engine benchmark: one shape, on one instruction set.

An instruction set is chosen when the kernels are imported, so each has a process of its own, which
engine.py starts: `python -m burnish.ops.bench.lib.speed.contest PLAN OUT`, both JSON. OUT is written after
every contestant, so that one that dies takes no other's figures along.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from burnish.ops.bench.lib.results import write_json
from burnish.ops.bench.lib.shapes import SHAPES
from burnish.ops.bench.lib.speed import llama_cpp, peers, roofline, ways
from burnish.ops.bench.lib.speed.loads import (
    CANDIDATE,
    CONCURRENT,
    FRESH,
    HELD_PEERS,
    LLAMA_CPP,
    LOADS,
    PARTS,
    PEERS,
)
from burnish.ops.bench.lib.speed.measuring import Measuring
from burnish.ops.bench.lib.speed.ours import LORA_RANK, burnish
from burnish.ops.bench.lib.speed.peers import Peer
from rich.console import Console


@dataclass(frozen=True)
class Plan:
    """What this process measures. `target` is an instruction set; PEERS or HELD_PEERS: everyone else."""

    shape: str
    folder: str
    target: str
    threads: int
    weights: tuple[str, ...]
    parts: tuple[str, ...] = PARTS
    only: tuple[str, ...] = ("",)  # contestants whose name has one of these
    rounds: int = 2  # at least
    seconds: float = 4.0  # in which further rounds may begin

    @classmethod
    def read(cls, path: Path) -> Plan:
        fields: dict[str, Any] = json.loads(path.read_text())
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def measures(self, *parts: str) -> bool:
        return bool({*parts} & {*self.parts})

    @property
    def of_peers(self) -> bool:
        return self.target in (PEERS, HELD_PEERS)

    def chosen(self, name: str) -> bool:
        return any(part in name for part in self.only)


@dataclass(frozen=True)
class Contestant:
    """A way to open it on (folder, threads), and what is measured of it."""

    open: Callable[[Path, int], AbstractContextManager[Peer]]
    measure: Callable[[Peer], dict[str, Any]]

    def __call__(self, folder: Path, threads: int) -> dict[str, Any]:
        with self.open(folder, threads) as peer:
            return self.measure(peer)


def contestants(plan: Plan) -> Iterator[tuple[str, Contestant]]:
    """Everyone that a plan names."""
    load = LOADS[plan.shape]
    if not load.contests:
        return
    measuring = Measuring(SHAPES[plan.shape]["vocab_size"], plan.rounds, plan.seconds)
    decode = partial(measuring.decode, load=load)

    def speed(peer: Peer, *, long: bool) -> dict[str, Any]:
        found = decode(peer) if plan.measures("decode") else {}
        return found | (
            {"prompts": measuring.prompts(peer, long)} if plan.measures("prefill") else {}
        )

    if plan.of_peers:
        if llama_cpp.installed() and plan.measures("decode", "prefill"):
            for form in map(LLAMA_CPP.__getitem__, plan.weights):
                measure = partial(speed, long=form == "bf16")
                yield f"llama.cpp {form}", Contestant(llama_cpp.llama_cpp(form), measure)
        generate = peers.transformers_generate
        if load.transformers and plan.measures("decode"):
            yield "transformers generate", Contestant(generate, decode)
        if load.fresh and plan.measures("fresh"):
            peft = partial(generate, rank=LORA_RANK)
            yield "transformers generate, no adapter", Contestant(generate, measuring.fresh)
            yield f"transformers generate, {CANDIDATE}", Contestant(peft, measuring.fresh)
        return
    ours = partial(burnish, rows=max(CONCURRENT), slots=load.slots)
    if plan.measures("decode", "prefill"):
        for form in plan.weights:
            measure = partial(speed, long=form == "bfloat16")
            yield f"burnish {form}", Contestant(partial(ours, weights=form), measure)
    if load.adapters and plan.measures("adapters"):
        for count, name in ((1, "1 adapter"), (2, "2 adapters")):
            adapted = partial(ours, weights="bfloat16", adapters=count)
            yield f"burnish bfloat16, {name}", Contestant(adapted, decode)
    if load.fresh and plan.measures("fresh"):
        learner = partial(burnish, rows=FRESH.rows, slots=FRESH.slots, adapters=1, batch=True)
        candidate = partial(learner, weights="bfloat16")
        yield f"burnish bfloat16, {CANDIDATE}", Contestant(candidate, measuring.fresh)


def run(plan: Plan, out: Path) -> None:
    """Measure all, one after the other, writing `out` after each."""
    torch.set_num_threads(plan.threads)
    console, load, folder = Console(), LOADS[plan.shape], Path(plan.folder)
    rows: dict[str, Any] = {}
    found: dict[str, Any] = {"contestants": rows}

    def keep(into: dict[str, Any], name: str, measure: Callable[[], Any]) -> None:
        began = time.perf_counter()
        try:
            into[name] = measure()
        except Exception as error:  # noqa: BLE001 - one that fails is a result as well
            into[name] = {"error": f"{type(error).__name__}: {error}"}
        took = time.perf_counter() - began
        console.print(plan.shape, plan.target, f"{name} ({took:.0f} s)", into[name])
        write_json(out, found)

    for name, contestant in contestants(plan):
        if plan.chosen(name):
            keep(rows, name, partial(contestant, folder, plan.threads))
    if plan.of_peers:
        if llama_cpp.installed():
            keep(found, "llama.cpp", llama_cpp.built_for)
        return
    if plan.measures("machine"):
        keep(found, "machine", partial(roofline.measure_machine, plan.threads))
    if load.steps and plan.measures("steps"):
        keep(found, "steps", partial(ways.compare_steps, folder))
    if load.answers and plan.measures("training"):
        keep(found, "training", partial(ways.compare_training, folder, load.answers))


if __name__ == "__main__":
    run(Plan.read(Path(sys.argv[1])), Path(sys.argv[2]))
