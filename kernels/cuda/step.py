"""The engine's step on a GPU: transformers' classes with our kernels inside, CUDA graphs for decode.

Attention, experts and LoRA run on this folder's kernels. The rest of a model class (norms, RoPE,
routing, the head) stays PyTorch's: a graph removes the cost of those small launches. The engine's
sampler samples, on the device. Left out: several steps without the host in between.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from burnish.kernels.attention import KVPages
from burnish.kernels.cpu.support import ROPES
from burnish.kernels.cuda.attention import PAGE, CudaBatch, copy_to_device
from burnish.kernels.cuda.experts import GroupedExperts
from burnish.kernels.cuda.graphs import CannotRecord, CudaGraphs, DecodeGraphs, Recorder, may_replay
from burnish.kernels.cuda.lora import AdapterBank, TokenAdapters
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.slots import ActiveSlots
from torch import Tensor

log = logging.getLogger(__name__)


class CudaStep:
    """Steps of a model; `weights` int8 or int4 quantises experts, `record` replaces CUDA graphs."""

    spare_slots = PAGE  # of a cache, for the padding rows of graphs

    def __init__(
        self,
        model: Any,
        active: ActiveSlots,
        weights: str = "auto",
        record: Recorder | None = None,
    ) -> None:
        self.model, self.active, self.device = model, active, model.device
        self.bank = AdapterBank(self.device)
        config = model.config
        heads = config.num_attention_heads
        self._share = heads // (getattr(config, "num_key_value_heads", None) or heads)
        for module in model.modules():
            if hasattr(module, "_apply_gate") and hasattr(module, "is_transposed"):
                module.grouped = GroupedExperts(module, weights, active)
        if record is None and self.device.type == "cuda":
            record = CudaGraphs()
        self._graphs = None
        if record is not None and _fixed_rope(config):
            self._graphs = DecodeGraphs(self._decode, record, self.device)

    def __call__(
        self, batch: ForwardBatch, table: np.ndarray, pages: tuple[KVPages, ...]
    ) -> Tensor:
        """Logits [K, V] of the kept tokens, valid until the next step. Blocks of `table` [rows,
        reach] begin at multiples of 16 slots, and the last page of `pages` belongs to no row."""
        batch = replace(batch, slots=self.bank.find(batch.slots))
        adapted = bool(batch.slots.any())
        if self._graphs is not None and may_replay(batch):
            try:
                return self._graphs(batch, table, pages, self.bank.layout if adapted else None)
            except CannotRecord as error:
                log.warning(
                    "decode steps go out launch by launch, this model's cannot be recorded: %s",
                    error,
                )
                self._graphs = None
        paged = CudaBatch.of(batch, table, pages, self._share, self.device)
        tokens, slots, keep = copy_to_device(self.device, batch.tokens, batch.slot, batch.keep)
        return self._run(tokens, paged, slots if adapted else None, keep)

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
        self, tokens: Tensor, paged: CudaBatch, slots: Tensor | None, keep: Tensor | int
    ) -> Tensor:
        token_adapters = None if slots is None else TokenAdapters(slots, self.bank)
        with self.active.cuda_step(token_adapters):
            return self.model(
                input_ids=tokens[None],
                position_ids=paged.position[None],
                paged=paged,
                use_cache=False,
                logits_to_keep=keep,
            ).logits[0]


def _fixed_rope(config: Any) -> bool:
    """Whether RoPE's frequencies do not depend on the length of a sequence."""
    ropes = getattr(config, "rope_parameters", None) or {}
    kinds = ropes.values() if all(isinstance(r, dict) for r in ropes.values()) else [ropes]
    return all(kind.get("rope_type", "default") in ROPES for kind in kinds)
