"""The roofline: what a machine reads and multiplies, what a step has to, and the share that it reaches.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009). A step's
bytes are those it cannot do without: each weight that its tokens use once, in the format's size, and
the KV cache of its rows. Left out: activations and tables, which stay in caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
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
READ_BYTES, PRODUCT = 1 << 30, 2048  # read to measure bandwidth; the side of a matrix product
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
    """Read bandwidth of one thread and of all in GB/s, and the FMA peak of all in GFLOP/s.

    Bandwidth is the sum of 1 GiB of float32; the peak is torch's product of square float32 matrices,
    which reaches some 90 % of what the units could do. The best of several tries each.
    """
    memory = torch.ones(READ_BYTES // 4)
    found = {}
    for name, count in (("read_gb_s_one_thread", 1), ("read_gb_s", threads)):
        torch.set_num_threads(count)
        found[name] = round(READ_BYTES / _best(memory.sum) / 1e9, 1)
    found["gflops"] = round(2 * PRODUCT**3 / _best(_product(PRODUCT)) / 1e9, 1)
    found["how"] = (
        f"sum of {READ_BYTES >> 20} MiB of float32; float32 product of {PRODUCT} x {PRODUCT}"
    )
    return found


def best_of(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Of two measurements of one machine, each figure's higher one: neighbours only make it slower."""
    if "error" in before or "error" in now:
        return before or now
    numbers = {name: value for name, value in before.items() if isinstance(value, float)}
    return now | {name: max(value, now[name]) for name, value in numbers.items()}


def _product(size: int) -> Callable[[], Any]:
    torch.manual_seed(0)
    a, b, out = (torch.randn(size, size) for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def _best(run: Callable[[], Any]) -> float:
    """Seconds of the fastest of several tries."""
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return min(took)
