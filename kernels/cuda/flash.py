"""FlashAttention over pieces of different lengths: the `flash_attn` package if installed, else torch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

# (query, key, value, cumulative lengths of queries and of keys, the longest of both, scale, window,
# soft cap) -> out [tokens, heads, D]
Varlen = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, int, int, float, int | None, float | None], Tensor
]


def varlen_for(
    query: Tensor, value_width: int, sinks: Tensor | None, softcap: float | None
) -> Varlen | None:
    """The FlashAttention that supports this call; None if none does."""
    width = query.shape[2]
    fits = query.dtype in (torch.float16, torch.bfloat16) and width <= 256 and width % 8 == 0
    if not fits or sinks is not None or value_width != width or not query.is_cuda:
        return None
    return flash_attention(softcap is not None)[1]


@lru_cache
def flash_attention(capped: bool) -> tuple[str, Varlen | None]:
    """The FlashAttention available here, with a soft cap or without: its name and function."""
    if torch.cuda.get_device_capability() < (8, 0):
        return "none: it wants capability 8.0", None
    try:
        from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]
    except ImportError:
        return ("none: torch's has no soft cap", None) if capped else ("torch's own", _torch_varlen)

    def package(
        q: Tensor, k: Tensor, v: Tensor, edges: Tensor, key_edges: Tensor,
        longest: int, most_keys: int, scale: float, window: int | None, softcap: float | None,
    ) -> Tensor:  # fmt: skip
        return flash_attn_varlen_func(
            q, k, v, edges, key_edges, longest, most_keys,
            softmax_scale=scale, causal=True, window_size=_sides(window), softcap=softcap or 0.0,
        )  # fmt: skip

    return "the flash_attn package", package


def _torch_varlen(
    q: Tensor, k: Tensor, v: Tensor, edges: Tensor, key_edges: Tensor,
    longest: int, most_keys: int, scale: float, window: int | None, softcap: float | None,
) -> Tensor:  # fmt: skip
    assert softcap is None
    found: Any = varlen_attn(
        q, k, v, edges, key_edges, longest, most_keys,
        scale=scale, window_size=_sides(window), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    return found


def _sides(window: int | None) -> tuple[int, int]:
    """FlashAttention's window counts the positions before a token; ours includes the token."""
    return (-1 if window is None else window - 1, 0)
