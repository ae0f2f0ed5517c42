"""LoRA slots: several adapters resident at once, one slot index per token.

A slot is one adapter; slot 0 is the base and has no weights. With the slots of a step set on
`ActiveSlots`, every adapted projection adds `B_s A_s x` for its token's slot s. Mixed slots run as
two dense products over the joined ranks of all slots present, with a mask [tokens, ranks] between
them that keeps each token's own ranks and carries the scale.

Tensors that require gradients are used live, so training runs through the code that serves.
Left out: quantised adapters, and kernels that skip the masked ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Pair = tuple[torch.Tensor, torch.Tensor]


class ActiveSlots:
    """The slots that the tokens of the current forward pass use; shared by all tables of one model."""

    def __init__(self) -> None:
        self.present: tuple[int, ...] = ()  # adapter slots in this forward pass, without 0
        self.mask: torch.Tensor | None = None  # [tokens, ranks] scales; None: one slot for all
        self.scales: dict[int, tuple[int, float]] = {}  # slot -> (rank, alpha / rank)
        # A step on the CUDA kernels sets these two instead.
        self.on_cuda = False
        self.token_adapters: Any = None  # cuda.lora.TokenAdapters; None: all base

    def use(self, slots: int | torch.Tensor, present: Sequence[int] | None = None) -> None:
        """Set the slot of all tokens (an int), or of each token (LongTensor [tokens]).

        `present` lists the distinct slots, if the caller knows them already.
        """
        if isinstance(slots, torch.Tensor):
            distinct = sorted(set(slots.unique().tolist() if present is None else present))
        else:
            distinct = [slots]
        self.present = tuple(s for s in distinct if s in self.scales)
        self.mask = None
        if isinstance(slots, torch.Tensor) and len(distinct) > 1 and self.present:
            columns = torch.tensor([s for s in self.present for _ in range(self.scales[s][0])])
            values = torch.tensor(
                [self.scales[s][1] for s in self.present for _ in range(self.scales[s][0])]
            )
            self.mask = (slots[:, None] == columns.to(slots.device)) * values.to(slots.device)

    @contextmanager
    def cuda_step(self, token_adapters: Any) -> Iterator[None]:
        """Within it, forward passes are steps on the CUDA kernels."""
        self.on_cuda, self.token_adapters, self.present = True, token_adapters, ()
        try:
            yield
        finally:
            self.on_cuda, self.token_adapters = False, None


class SlotTable:
    """The adapters of one projection: per slot A [(E,) r, in] and B [(E,) out, r]."""

    def __init__(self, active: ActiveSlots) -> None:
        self.active = active
        self.pairs: dict[int, Pair | Callable[[], Pair]] = {}
        self._joined: tuple[object, tuple[torch.Tensor, torch.Tensor]] | None = None

    def set(self, slot: int, pair: Pair | Callable[[], Pair] | None) -> None:
        """Fill or (None) clear a slot; a callable is asked at every forward pass, for tensors that are
        whole only then."""
        self._joined = None
        if pair is None:
            self.pairs.pop(slot, None)
        else:
            self.pairs[slot] = pair

    def pair(self, slot: int) -> Pair:
        """A and B of a slot that is filled."""
        held = self.pairs[slot]
        return held() if callable(held) else held

    def _join(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A^T [(E,) in, R] and B^T [(E,) R, out] over all present slots; None: nothing to add."""
        active = self.active
        if not any(s in self.pairs for s in active.present):
            return None
        key = (active.present, active.mask is None)
        if self._joined is not None and self._joined[0] == key:
            return self._joined[1]
        if self.live():
            return self._concatenate()
        # Kept between steps: must be usable inside and outside inference mode.
        with torch.inference_mode(False), torch.no_grad():
            down, up = self._concatenate()
            self._joined = (key, (down.contiguous(), up.contiguous()))
        return self._joined[1]

    def _concatenate(self) -> tuple[torch.Tensor, torch.Tensor]:
        active = self.active
        any_a, any_b = self.pair(next(iter(self.pairs)))
        downs, ups = [], []
        for slot in active.present:
            rank, scale = active.scales[slot]
            if slot in self.pairs:
                a, b = self.pair(slot)
            else:  # not a target of this adapter: its ranks add nothing
                a = any_a.new_zeros(*any_a.shape[:-2], rank, any_a.shape[-1])
                b = any_b.new_zeros(*any_b.shape[:-1], rank)
            downs.append(a.transpose(-1, -2))
            ups.append(b.transpose(-1, -2) * (scale if active.mask is None else 1.0))
        return torch.cat(downs, dim=-1), torch.cat(ups, dim=-2)

    def live(self) -> bool:
        """Whether an adapter in use is being trained, so that no copy of it may be kept."""
        return any(
            tensor.requires_grad
            for slot in self.active.present
            if slot in self.pairs
            for tensor in self.pair(slot)
        )

    def add(self, out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """out [..., out] plus this projection's LoRA of x [..., in]."""
        pair = self._join()
        if pair is None:
            return out
        low = x @ pair[0].to(x)
        if self.active.mask is not None:
            low = low * self.active.mask.view(*low.shape).to(low.dtype)
        return out + low @ pair[1].to(x)

    def grouped(
        self, source: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None:
        """For experts: A^T [E, in, R], B^T [E, R, out], scales of the tokens `source` [N, R]; of the
        type and on the device of `like`."""
        pair = self._join()
        if pair is None:
            return None
        mask = self.active.mask
        scales = None if mask is None else mask.index_select(0, source).to(like)
        return pair[0].to(like), pair[1].to(like), scales


class SlotLinear(nn.Linear):
    """An nn.Linear that adds each token's adapter; `adopt` converts a Linear in place."""

    table: SlotTable

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        out = F.linear(input, self.weight, self.bias)
        active = self.table.active
        if active.token_adapters is not None:
            return active.token_adapters.add(self.table, out, input)
        return self.table.add(out, input) if active.present else out

    @classmethod
    def adopt(cls, linear: nn.Linear, active: ActiveSlots) -> SlotTable:
        """Turn `linear` into a SlotLinear with an empty table and return the table."""
        if not isinstance(linear, cls):
            linear.__class__ = cls
            linear.table = SlotTable(active)  # type: ignore[assignment]
        return linear.table  # type: ignore[return-value]
