"""The roofline: what a machine reads and multiplies, what a step has to, and the share that it reaches.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009). A step's
bytes are those it cannot do without: each weight that its tokens use once, in the format's size, and
the KV cache of its rows. Left out: activations and tables, which stay in caches.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from burnish.kernels.cpu.library import FLAGS, SOURCES
from burnish.kernels.cpu.target import TARGET
from burnish.ops.bench.lib.shapes import SHAPES
from burnish.ops.bench.lib.speed.loads import CONCURRENT, LOADS, SHORT, Load

# Bytes of a weight: int4 has a float32 scale for 32 inputs, llama.cpp's have a float16 one.
WEIGHT_BYTES = {
    "bfloat16": 2.0,
    "int8": 1.0,
    "int4": 0.5 + 4 / 32,
    "bf16": 2.0,
    "q8_0": 1.0 + 2 / 32,
    "q4_0": 0.5 + 2 / 32,
}
KV_BYTES = 2  # of a number in the cache: bfloat16, or llama.cpp's float16
READ_BYTES, ROUNDS = 1 << 30, 1 << 24  # read to measure bandwidth; times that each sum is added to
TRIES = 5
MOST = max(CONCURRENT)  # rows


@dataclass(frozen=True)
class Work:
    """What a shape asks for: weights that every token uses, those of one expert of all layers, and
    what attention adds."""

    shared: int  # without embeddings, with the head
    head: int
    expert: int
    experts: int  # 1: dense
    chosen: int
    kv_numbers: int  # of one position, all layers
    query_numbers: int  # of one token, all layers

    @classmethod
    def of(cls, shape: dict[str, Any]) -> Work:
        hidden, layers, width = shape["hidden_size"], shape["num_hidden_layers"], shape["head_dim"]
        query, kv = (shape[f"num_{kind}_heads"] * width for kind in ("attention", "key_value"))
        experts = shape.get("num_experts", 1)
        inner = shape.get("moe_intermediate_size") or shape["intermediate_size"]
        router = hidden * experts if experts > 1 else 0
        head = hidden * shape["vocab_size"]
        return cls(
            shared=layers * (hidden * 2 * (query + kv) + router) + head,
            head=head,
            expert=layers * 3 * hidden * inner,
            experts=experts,
            chosen=shape.get("num_experts_per_tok", 1),
            kv_numbers=layers * 2 * kv,
            query_numbers=layers * query,
        )

    @property
    def active(self) -> int:
        """Weights that one token is multiplied by."""
        return self.shared + self.chosen * self.expert

    def bytes_per_step(self, form: str, rows: int, context: float) -> float:
        """Of a step that decodes one token for each of `rows`; the expected number of experts, if
        each row chooses at random."""
        used = self.experts * (1 - (1 - self.chosen / self.experts) ** rows)
        weights = self.shared + used * self.expert
        return weights * WEIGHT_BYTES[form] + rows * context * self.kv_numbers * KV_BYTES

    def flops_per_step(self, rows: int, context: float) -> float:
        """Of the same step: a multiplication and an addition each."""
        return rows * (2 * self.active + 4 * self.query_numbers * context)

    def flops_of_prompt(self, tokens: int) -> float:
        """Of reading a prompt: logits of its last token alone."""
        products = tokens * (self.active - self.head) + self.head
        return 2 * products + 4 * self.query_numbers * tokens * tokens / 2


def shares(results: dict[str, Any]) -> dict[str, Any]:
    """By shape, target and contestant: decode at 1 as a share of the read bandwidth; decode of the most
    rows and a prompt's prefill as shares of the FMA peak. Peers are held to what the best instruction set reaches."""
    found: dict[str, Any] = {}
    for shape, cells in results["shapes"].items():
        for target, cell in cells.items():
            machine = _machine(results["machines"], target)
            for name, row in cell.get("contestants", {}).items():
                form = name.rpartition(" ")[2]
                if machine and form in WEIGHT_BYTES:
                    rows = found.setdefault(shape, {}).setdefault(target, {})
                    rows[name] = _shares(Work.of(SHAPES[shape]), LOADS[shape], form, row, machine)
    return found


def _shares(
    work: Work, load: Load, form: str, row: dict[str, Any], machine: dict[str, Any]
) -> dict[str, float]:
    share = {}
    if "1" in row:
        moved = work.bytes_per_step(form, 1, load.context) * row["1"]["decode"]
        share["bandwidth"] = round(moved / machine["read_gb_s"] / 1e9, 3)
    if str(MOST) in row:
        done = work.flops_per_step(MOST, load.context) / MOST * row[str(MOST)]["decode"]
        share["flops_of_decode"] = round(done / machine["gflops"] / 1e9, 3)
    if "prompts" in row:
        done = work.flops_of_prompt(SHORT) / SHORT * row["prompts"][str(SHORT)]
        share["flops"] = round(done / machine["gflops"] / 1e9, 3)
    return share


def _machine(machines: dict[str, Any], target: str) -> dict[str, Any] | None:
    """What the machine does on a target; for peers, on the fastest."""
    known = {name: machine for name, machine in machines.items() if "error" not in machine}
    fastest = max(known.values(), key=lambda machine: machine["gflops"], default=None)
    return known.get(target, fastest)


def measure_machine(threads: int) -> dict[str, Any]:
    """Read bandwidth of one thread and of all in GB/s, and the FMA peak of all in GFLOP/s, both in vectors of the
    target (roofs.cpp). The best of several tries each."""
    memory, out, found = torch.ones(READ_BYTES // 4), torch.zeros(threads), {}
    roofs, at = _roofs(), ctypes.c_void_p(memory.data_ptr())
    for name, count in (("read_gb_s_one_thread", 1), ("read_gb_s", threads)):
        seconds = _best(lambda: roofs.burnish_read(at, ctypes.c_int64(len(memory)), count))  # noqa: B023
        found[name] = round(READ_BYTES / seconds / 1e9, 1)
    rounds, into = ctypes.c_int64(ROUNDS), ctypes.c_void_p(out.data_ptr())
    done = roofs.burnish_multiply(rounds, threads, into)
    seconds = _best(lambda: roofs.burnish_multiply(rounds, threads, into))
    found["gflops"] = round(done / seconds / 1e9, 1)
    found["how"] = f"sum of {READ_BYTES >> 20} MiB of float32; multiply-adds in registers"
    return found


def _roofs() -> ctypes.CDLL:
    """roofs.cpp, compiled for the target as the native library is."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None, "what is measured has been compiled before"
    assert TARGET is not None, "PyTorch has roofs of its own"
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "roofs.so"
        flags = [*FLAGS, *TARGET.flags, f"-DBURNISH_WIDTH={TARGET.width}", f"-I{SOURCES}"]
        source = Path(__file__).with_name("roofs.cpp")
        command = [compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(made)]
        subprocess.run(command, check=True)
        found = ctypes.CDLL(str(made))
    found.burnish_read.restype = ctypes.c_float
    found.burnish_multiply.restype = ctypes.c_double
    return found


def best_of(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Of two measurements of one machine, each figure's higher one: neighbours only make it slower."""
    if "error" in before or "error" in now:
        return before or now
    numbers = {name: value for name, value in before.items() if isinstance(value, float)}
    return now | {name: max(value, now[name]) for name, value in numbers.items()}


def _best(run: Callable[[], Any]) -> float:
    """Seconds of the fastest of several tries."""
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return min(took)
