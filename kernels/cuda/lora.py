"""Factored LoRA on a GPU: every token adds its own slot's B A x, by two grouped products.

The adapters of all slots and projections stay where they were loaded. `Banks` keeps their addresses
in one small tensor on the device, with a rank and a scale per slot: a new version is one column of
it, and adapters of different ranks lie side by side. Filling a slot changes the tensors in place, so
recorded steps see it; only a larger rank, another slot count or another projection is a new `layout`.

Left out: live adapters (training takes the PyTorch way).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from burnish.kernels.cuda.grouped import Matrices, Plan, grouped
from burnish.kernels.slots import SlotTable
from torch import Tensor

SLOTS = 16  # at first, the base among them


@dataclass(frozen=True)
class Segments:
    """The slots of a step's tokens [T], int32, and what they choose from."""

    slots: Tensor
    banks: Banks

    @cached_property
    def tokens(self) -> Plan:
        """Rows are tokens, groups are slots."""
        return Plan.of(self.slots, self.banks.slots)

    def pairs(self, chosen: Tensor, experts: int) -> Plan:
        """Rows are (token, choice) pairs of `chosen` [T, k], groups are (expert, slot)."""
        slots = self.banks.slots
        return Plan.of((chosen * slots + self.slots[:, None]).flatten(), experts * slots)

    def add(self, table: SlotTable, out: Tensor, x: Tensor) -> Tensor:
        """out [..., out] plus the projection's LoRA of x [..., in], in place."""
        self.banks.add(table, out.flatten(0, -2), x.flatten(0, -2), self.tokens)
        return out


class Banks:
    """Where the adapters of a model's projections lie, slot by slot."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.slots = SLOTS
        self.rank = 0  # the largest
        self.layout = 0
        self._ranks = torch.zeros(SLOTS, dtype=torch.int32, device=device)
        self._scales = torch.ones(SLOTS, device=device)
        self._ones = torch.ones(SLOTS, device=device)
        self._tables: dict[SlotTable, int] = {}
        self._address = torch.zeros(0, SLOTS, dtype=torch.int64, device=device)
        self._kept: dict[int, list[Tensor]] = {}

    def set(
        self, slot: int, pairs: Sequence[tuple[SlotTable, tuple[Tensor, Tensor]]],
        rank: int = 0, scale: float = 1.0,
    ) -> None:  # fmt: skip
        """Fill a slot with A [(E,) r, in] and B [(E,) out, r] per projection; no pairs: clear it.

        A and the transpose of B must be contiguous.
        """
        self._make_room(slot, [table for table, _ in pairs], rank)
        column = torch.zeros(len(self._address), dtype=torch.int64)
        kept = []
        for table, (a, b) in pairs:
            for at, weight in enumerate((a, b.transpose(-1, -2))):
                if not weight.is_contiguous():
                    raise ValueError("an adapter's A and transposed B must be contiguous")
                column[self._tables[table] + at] = weight.data_ptr()
                kept.append(weight)
        self._address[:, slot] = column.to(self.device)
        self._ranks[slot], self._scales[slot] = rank, scale
        self._kept[slot] = kept

    def has(self, table: SlotTable) -> bool:
        return table in self._tables

    def add(self, table: SlotTable, out: Tensor, x: Tensor, plan: Plan, share: int = 1) -> None:
        """out [N, out] += the LoRA of x [N / share, in], row by row as `plan` says."""
        if table not in self._tables:
            return
        at = self._tables[table]
        down = Matrices(self._address[at], self._ranks, self._ones)
        up = Matrices(self._address[at + 1], self._ranks, self._scales, wide=True)
        low = x.new_empty(out.shape[0], self.rank)
        grouped(x, low, plan, down, share)
        grouped(low, out, plan, up, add=True)

    def _make_room(self, slot: int, tables: Sequence[SlotTable], rank: int) -> None:
        before = (self.slots, self.rank, len(self._address))
        self.rank = max(self.rank, rank)
        for table in tables:
            self._tables.setdefault(table, 2 * len(self._tables))
        while slot >= self.slots:
            self.slots *= 2
        if before == (self.slots, self.rank, 2 * len(self._tables)):
            return
        self.layout += 1
        rows, slots = self._address.shape
        address = self._address.new_zeros(2 * len(self._tables), self.slots)
        address[:rows, :slots] = self._address
        ranks, scales = self._ranks.new_zeros(self.slots), self._scales.new_ones(self.slots)
        ranks[:slots], scales[:slots] = self._ranks, self._scales
        self._address, self._ranks, self._scales = address, ranks, scales
        self._ones = torch.ones_like(scales)
