"""LoRA on a GPU: every token adds its own slot's B A x, by two grouped products.

Adapters stay where they were loaded. `AdapterBank` keeps their addresses in one small tensor on the
device, with a rank and a scale for each: a new version is one column of it, and ranks may differ. The
tensors change in place, so recorded graphs see it; only a larger rank, more adapters than there are
places, or another projection makes a new `layout`.

Left out: adapters in training, which run through PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from burnish.kernels.cuda.grouped import GroupPlan, Matrices, grouped
from burnish.kernels.slots import SlotTable
from torch import Tensor

PLACES = 16  # initially, including the base


@dataclass(frozen=True)
class TokenAdapters:
    """Which adapter each token of a step uses: places [T] in the bank, int32."""

    places: Tensor
    bank: AdapterBank

    @cached_property
    def by_token(self) -> GroupPlan:
        """Rows are tokens, groups are adapters."""
        return GroupPlan.of(self.places, self.bank.places)

    def by_pair(self, chosen: Tensor, experts: int) -> GroupPlan:
        """Rows are (token, expert) pairs of `chosen` [T, k], groups are (expert, adapter)."""
        places = self.bank.places
        return GroupPlan.of((chosen * places + self.places[:, None]).flatten(), experts * places)

    def add(self, table: SlotTable, out: Tensor, x: Tensor) -> Tensor:
        """out [..., out] plus the projection's LoRA of x [..., in], in place."""
        self.bank.add(table, out.flatten(0, -2), x.flatten(0, -2), self.by_token)
        return out


class AdapterBank:
    """Addresses of the adapters of a model's projections. Slots map to places, 0 being the base's, so that
    the tensors are as small as the number of adapters."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.places = PLACES
        self.rank = 0  # the largest
        self.layout = 0
        self._place: dict[int, int] = {}  # slot -> place
        self._kept: dict[int, list[Tensor]] = {}  # place -> its tensors
        self._row: dict[SlotTable, int] = {}  # row of A's addresses; B's is the next
        self._address = torch.zeros(0, PLACES, dtype=torch.int64, device=device)
        self._ranks = torch.zeros(PLACES, dtype=torch.int32, device=device)
        self._scales = torch.ones(PLACES, device=device)
        self._ones = torch.ones(PLACES, device=device)

    def find(self, slots: np.ndarray) -> np.ndarray:
        """Places of slots [B]; the base's for slots without an adapter."""
        return np.array([self._place.get(slot, 0) for slot in slots.tolist()])

    def fill(
        self, slot: int, pairs: Sequence[tuple[SlotTable, tuple[Tensor, Tensor]]],
        rank: int, scale: float,
    ) -> None:  # fmt: skip
        """Add A [(E,) r, in] and B [(E,) out, r] per projection. ValueError unless A and the transpose of
        B are contiguous."""
        place = next(n for n in range(1, len(self._kept) + 2) if n not in self._kept)
        self._grow(place, [table for table, _ in pairs], rank)
        column = torch.zeros(len(self._address), dtype=torch.int64)
        kept = self._kept[place] = []
        for table, (a, b) in pairs:
            for at, weight in enumerate((a, b.mT)):
                if not weight.is_contiguous():
                    raise ValueError("an adapter's A and transposed B must be contiguous")
                column[self._row[table] + at] = weight.data_ptr()
                kept.append(weight)
        self._address[:, place] = column.to(self.device)
        self._ranks[place], self._scales[place] = rank, scale
        self._place[slot] = place

    def clear(self, slot: int) -> None:
        """Remove a slot's adapter, if it has one."""
        place = self._place.pop(slot, None)
        if place is not None:
            self._address[:, place] = 0
            del self._kept[place]

    def add(
        self, table: SlotTable, out: Tensor, x: Tensor, plan: GroupPlan, share: int = 1
    ) -> None:
        """out [N, out] += the LoRA of x [N / share, in], row by row as `plan` says."""
        if table not in self._row:
            return
        row = self._row[table]
        down = Matrices(self._address[row], self._ranks, self._ones)
        up = Matrices(self._address[row + 1], self._ranks, self._scales, wide=True)
        low = x.new_empty(out.shape[0], self.rank)
        grouped(x, low, plan, down, share)
        grouped(low, out, plan, up, add=True)

    def _grow(self, place: int, tables: Sequence[SlotTable], rank: int) -> None:
        before = (self.places, self.rank, len(self._row))
        self.rank = max(self.rank, rank)
        for table in tables:
            self._row.setdefault(table, 2 * len(self._row))
        if place >= self.places:
            self.places *= 2
        if before == (self.places, self.rank, len(self._row)):
            return
        self.layout += 1
        rows, places = self._address.shape
        address = self._address.new_zeros(2 * len(self._row), self.places)
        address[:rows, :places] = self._address
        ranks, scales = self._ranks.new_zeros(self.places), self._scales.new_ones(self.places)
        ranks[:places], scales[:places] = self._ranks, self._scales
        self._address, self._ranks, self._scales = address, ranks, scales
        self._ones = torch.ones_like(scales)
