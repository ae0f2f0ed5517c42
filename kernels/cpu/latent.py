"""Multi-head latent attention (MLA): its matrices as cpu/native/latent_attention.h takes them, and their
adapters.

`kv_b_proj` is split by heads: its key half, transposed, is applied to queries, its value half after
attention (DeepSeek-AI 2024, DeepSeek-V2, section 2.1). Where a model rotates neighbouring dimensions
(interleaved RoPE), the rows of queries and keys alike are reordered to halves, even dimensions first,
which is the layout of the other families and changes no product of the two.

Left out: the expanded form, which PyTorch computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]  # an adapter's down [E, rank, in] and up [E, out, rank]


@dataclass(frozen=True)
class LatentAttention:
    """An attention module of DeepSeek-V3's kind."""

    module: Any

    @classmethod
    def of(cls, module: Any) -> LatentAttention | None:
        """None if the module is no MLA."""
        return cls(module) if hasattr(module, "kv_b_proj") else None

    @property
    def down_projections(self) -> tuple[nn.Linear, ...]:
        """Projections to the latents, which are joined: the queries' (where there is one), then the KV's."""
        latents = (self.module.q_a_proj, self.module.kv_a_proj_with_mqa)
        return tuple(linear for linear in latents if linear is not None)

    @property
    def down_projection_rows(self) -> Tensor:
        """Order in which the library takes the joined rows of `down_projections`."""
        return self._rotary_last(sum(linear.out_features for linear in self.down_projections))

    @property
    def query(self) -> Tensor:
        """[heads * (nope + rope), query's latent or hidden]"""
        return self._query_projection.weight[self._query_rows]

    @property
    def key(self) -> Tensor:
        """[heads, latent, nope]"""
        return self._by_head(self.module.kv_b_proj.weight)[0].transpose(1, 2)

    @property
    def value(self) -> Tensor:
        """[heads, values, latent]"""
        return self._by_head(self.module.kv_b_proj.weight)[1]

    def adapters(self, pair_of: Callable[[nn.Linear], Pair]) -> list[Pair]:
        """The adapters of `query`, `key` and `value`; `pair_of` gives that of a projection."""
        down, up = pair_of(self._query_projection)
        shared, rows = pair_of(self.module.kv_b_proj)
        keys, values = self._by_head(rows[0])
        each = shared.expand(self.module.num_heads, -1, -1)
        return [
            (down, up[:, self._query_rows]),
            (keys.transpose(1, 2), each.transpose(1, 2)),
            (each, values),
        ]

    @property
    def _query_projection(self) -> nn.Linear:
        return self.module.q_b_proj or self.module.q_proj

    @property
    def _query_rows(self) -> Tensor:
        size = self.module.qk_head_dim
        heads = torch.arange(self.module.num_heads)[:, None] * size
        return (heads + self._rotary_last(size)).flatten()

    def _rotary_last(self, size: int) -> Tensor:
        """Order of `size` rows that puts interleaved rotated dimensions, which come last, in halves."""
        rows, plain = torch.arange(size), size - self.module.qk_rope_head_dim
        if not self.module.config.rope_interleave:
            return rows
        return torch.cat([rows[:plain], rows[plain::2], rows[plain + 1 :: 2]])

    def _by_head(self, rows: Tensor) -> list[Tensor]:
        """[heads * (nope + values), n] -> keys [heads, nope, n] and values [heads, values, n]."""
        widths = [self.module.qk_nope_head_dim, self.module.v_head_dim]
        return list(rows.unflatten(0, (self.module.num_heads, -1)).split(widths, dim=1))


def latent_unsupported_reason(config: Any, width: int) -> str | None:
    """Why the native step, whose vectors are `width` wide, cannot run this MLA; None: it can."""
    sizes = {
        "kv_lora_rank": config.kv_lora_rank,
        "q_lora_rank": config.q_lora_rank or 0,
        "qk_nope_head_dim": config.qk_nope_head_dim,
        "v_head_dim of all heads": config.num_attention_heads * config.v_head_dim,
    }
    for name, size in sizes.items():
        if size % width:
            return f"{name} {size} is no multiple of {width}"
    return None
