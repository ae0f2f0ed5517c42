"""The engine's step on a GPU: transformers' classes with our kernels inside, decode from recordings.

Attention, experts and LoRA run as this folder's kernels. What else a model class does (norms, rope,
routing, the head) stays PyTorch: a recording takes away what those small launches cost. Drawing is
the engine's sampler, on the device. Left out: several steps without the host in between.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from burnish.kernels.attention import KVPages
from burnish.kernels.cpu.step import ROPES
from burnish.kernels.cuda.attention import PAGE, CudaBatch, send
from burnish.kernels.cuda.experts import GroupedExperts
from burnish.kernels.cuda.graphs import CannotRecord, CudaGraphs, DecodeGraphs, Recorder, may_replay
from burnish.kernels.cuda.lora import Banks, Segments
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.slots import ActiveSlots
from torch import Tensor

log = logging.getLogger(__name__)


class CudaStep:
    """Steps of a model; `weights` int8 or int4 quantises experts, `record` is for tests."""

    spare_slots = PAGE  # a cache needs these beyond its own, for recordings' empty rows

    def __init__(
        self,
        model: Any,
        active: ActiveSlots,
        weights: str = "auto",
        record: Recorder | None = None,
    ) -> None:
        self.model, self.active, self.device = model, active, model.device
        self.banks = Banks(self.device)
        config = model.config
        heads = config.num_attention_heads
        self._share = heads // (getattr(config, "num_key_value_heads", None) or heads)
        for module in model.modules():
            if hasattr(module, "_apply_gate") and hasattr(module, "is_transposed"):
                module.grouped = GroupedExperts(module, weights, active)
        if record is None and self.device.type == "cuda":
            record = CudaGraphs()
        self._graphs = None
        if record is not None and _steady(config):
            self._graphs = DecodeGraphs(self._decode, record, self.device)

    def __call__(self, feed: ForwardBatch, table: np.ndarray, pages: tuple[KVPages, ...]) -> Tensor:
        """Logits [K, V] of the kept tokens, valid until the next step. Blocks of `table` [rows,
        reach] begin at multiples of 16 slots, and `pages` have a page of 16 that no row owns."""
        feed = replace(feed, slots=self.banks.find(feed.slots))
        adapted = bool(feed.slots.any())
        if self._graphs is not None and may_replay(feed):
            try:
                return self._graphs(feed, table, pages, self.banks.layout if adapted else None)
            except CannotRecord as error:
                log.warning(
                    "decode steps go out launch by launch, this model's cannot be recorded: %s",
                    error,
                )
                self._graphs = None
        batch = CudaBatch.of(feed, table, pages, self._share, self.device)
        tokens, slots, keep = send(self.device, feed.tokens, feed.slot, feed.keep)
        return self._run(tokens, batch, slots if adapted else None, keep)

    def _decode(
        self,
        tokens: Tensor,
        positions: Tensor,
        slots: Tensor | None,
        table: Tensor,
        pages: tuple[KVPages, ...],
    ) -> Tensor:
        rows = tokens.shape[0]
        pieces = torch.arange(rows, dtype=torch.int32, device=self.device)
        return self._run(tokens, CudaBatch(pages, table, positions, pieces, rows), slots, 0)

    def _run(
        self, tokens: Tensor, batch: CudaBatch, slots: Tensor | None, keep: Tensor | int
    ) -> Tensor:
        segments = None if slots is None else Segments(slots, self.banks)
        with self.active.stepping(segments):
            return self.model(
                input_ids=tokens[None],
                position_ids=batch.position[None],
                paged=batch,
                use_cache=False,
                logits_to_keep=keep,
            ).logits[0]


def _steady(config: Any) -> bool:
    """Whether rope's frequencies never depend on how long a sequence is."""
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = ropes.values() if all(isinstance(r, dict) for r in ropes.values()) else [ropes]
    return all(kind.get("rope_type", "default") in ROPES for kind in kinds)
