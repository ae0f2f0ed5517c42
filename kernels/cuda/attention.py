"""Paged attention on a GPU: a Triton kernel for decode, FlashAttention for prefill where it applies.

Decode reads every key once and is memory-bound, so its kernel reads pages in place, with the query
heads of a key head in one tile, and splits the keys of few tokens among many programs (flash
decoding). The launch depends on the number of tokens alone, so that a graph can record it. Prefill is
compute-bound: its pages are gathered, which costs little beside the products, and given to
FlashAttention: the `flash_attn` package if it is installed, else torch's. (FlashAttention 2 reads pages
in place only if they are of 256, ours are of 16.) What it does not support goes through the Triton
kernel as well: float32, sinks, soft caps (torch's alone lacks these), values of another width than
keys.

Left out: MLA's compressed cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from burnish.kernels.attention import KVPages
from burnish.kernels.cuda.flash import varlen_for
from burnish.kernels.cuda.grouped import power_of_two
from burnish.kernels.forward_batch import ForwardBatch
from torch import Tensor

PAGE = 16  # slots; blocks of the engine's cache are multiples of it
ROWS = 64  # (token, query head) pairs in one tile of a prefill
PROGRAMS = 128  # about as many as a GPU runs at once
SPLITS = 16  # at most, of one token's keys
BYTES = 32 * 1024  # of keys and values loaded at a time: several must fit in shared memory


@dataclass(frozen=True)
class Prefill:
    """The step's B pieces of several tokens, behind its single tokens. Tensors are int32."""

    tiles: Tensor  # [tiles, 2] first token of each, and one past its last
    size: int  # tokens a tile holds
    edges: Tensor  # [B + 1] cumulative tokens
    key_edges: Tensor  # [B + 1] cumulative keys
    longest: int  # piece, in tokens
    most_keys: int  # of a piece
    slots: Tensor  # [keys] cache slot of every key, one piece after the other


@dataclass(frozen=True)
class CudaBatch:
    """One step of T tokens on the device, single tokens first; takes the place of attention.PagedBatch.

    `table` [B, reach / PAGE] is the page of every PAGE positions of each piece. Tensors are int32.
    """

    pages: tuple[KVPages, ...]  # per layer
    table: Tensor
    position: Tensor  # [T]
    piece: Tensor  # [T] piece of every token
    decodes: int  # pieces of a single token
    prefill: Prefill | None = None

    @classmethod
    def of(
        cls,
        batch: ForwardBatch,
        table: np.ndarray,
        pages: tuple[KVPages, ...],
        share: int,
        device: Any,
    ) -> CudaBatch:
        """`batch` on the device, by one copy; `table` [rows, reach] as in PagedBatch, `share` query heads
        per key head."""
        counts, reach = batch.counts, int((batch.starts + batch.counts).max())
        decodes = int((counts == 1).cumprod().sum())
        used = table[batch.rows, :reach:PAGE] // PAGE
        piece = np.arange(len(counts)).repeat(counts)
        if decodes == len(counts):
            sent = copy_to_device(device, used, batch.position, piece)
            return cls(pages, sent[0], sent[1], sent[2], decodes)
        rows, starts, counts = (a[decodes:] for a in (batch.rows, batch.starts, counts))
        size = max(1, ROWS // power_of_two(share, 1))
        ends = decodes + counts.cumsum()
        firsts = [np.arange(end - n, end, size) for end, n in zip(ends, counts, strict=True)]
        lasts = [np.minimum(f + size, end) for f, end in zip(firsts, ends, strict=True)]
        tiles = np.stack([np.concatenate(firsts), np.concatenate(lasts)], axis=1)
        keys = starts + counts
        slots = np.concatenate([table[row, :n] for row, n in zip(rows, keys, strict=True)])
        edges, key_edges = (np.append(0, n.cumsum()) for n in (counts, keys))
        sent = copy_to_device(device, used, batch.position, piece, tiles, edges, key_edges, slots)
        longest, most = int(counts.max()), int(keys.max())
        prefill = Prefill(sent[3], size, sent[4], sent[5], longest, most, sent[6])
        return cls(pages, sent[0], sent[1], sent[2], decodes, prefill)

    @cached_property
    def write(self) -> Tensor:
        """Cache slot of every token [T]."""
        page = self.table[self.piece, self.position // PAGE]
        return (page * PAGE + self.position % PAGE).long()

    @cached_property
    def decode_tiles(self) -> Tensor:
        """Tiles [decodes, 2] of the single tokens."""
        line = torch.arange(self.decodes + 1, dtype=torch.int32, device=self.table.device)
        return torch.stack([line[:-1], line[1:]], dim=1)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pages: KVPages,
        scale: float,
        window: int | None = None,
        sinks: Tensor | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """As attention.PagedBatch.attend."""
        pages.key.index_copy_(0, self.write, key.to(pages.key.dtype))
        pages.value.index_copy_(0, self.write, value.to(pages.value.dtype))
        out = query.new_empty(*query.shape[:2], value.shape[2])
        args = (pages, self, scale, window, sinks, softcap)
        if self.decodes:
            triton_attention(query, out, self.decode_tiles, 1, *args)
        p = self.prefill
        if p is None:
            return out
        flash = varlen_for(query, value.shape[2], sinks, softcap)
        if flash is None:
            triton_attention(query, out, p.tiles, p.size, *args)
        else:
            out[self.decodes :] = flash(
                query[self.decodes :], pages.key[p.slots], pages.value[p.slots],
                p.edges, p.key_edges, p.longest, p.most_keys, scale, window, softcap,
            )  # fmt: skip
        return out


def copy_to_device(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    """The arrays as int32 tensors on the device, by one copy."""
    flat = torch.from_numpy(np.concatenate([a.reshape(-1).astype(np.int32) for a in arrays]))
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)
    parts = flat.split([a.size for a in arrays])
    return [part.view(a.shape) for part, a in zip(parts, arrays, strict=True)]


def triton_attention(
    query: Tensor,
    out: Tensor,
    tiles: Tensor,
    size: int,
    pages: KVPages,
    batch: CudaBatch,
    scale: float,
    window: int | None,
    sinks: Tensor | None,
    softcap: float | None,
) -> None:
    """Attend the tokens of `tiles` of at most `size`: query [T, heads, D] -> out [T, heads, V]."""
    heads, kv_heads = query.shape[1], pages.key.shape[1]
    share = heads // kv_heads
    group = power_of_two(share, 1)
    width, values = power_of_two(query.shape[2]), power_of_two(pages.value.shape[2])
    keys = keys_at_once(width, values, pages.key.element_size())
    splits, parts, states = 1, out, out
    if size == 1:
        most = -(-batch.table.shape[1] * PAGE // keys)
        splits = max(1, min(SPLITS, most, PROGRAMS // (tiles.shape[0] * kv_heads)))
    if splits > 1:
        parts = out.new_empty(splits, tiles.shape[0], *out.shape[1:], dtype=torch.float32)
        states = out.new_empty(2, *parts.shape[:3], dtype=torch.float32)
    query = query.to(pages.key.dtype).contiguous()
    kernel: Any = _attend
    kernel[(tiles.shape[0], kv_heads, splits)](
        query, parts, states, pages.key, pages.value, batch.table, batch.piece, batch.position, tiles,
        query if sinks is None else sinks,
        batch.table.stride(0), scale, window or 0, softcap or 1.0,
        heads, kv_heads, query.shape[2], pages.value.shape[2],
        SINKS=sinks is not None,
        CAPPED=softcap is not None,
        SHARE=share,
        GROUP=group,
        ROWS=max(16, size * group),
        WIDTH=width,
        VALUES=values,
        KEYS=keys,
        PAGE=PAGE,
        SPLITS=splits,
    )  # fmt: skip
    if splits > 1:
        peak, mass = states
        weight = (peak - peak.amax(0)).exp()  # [splits, tiles, heads]
        whole = (parts * weight[..., None]).sum(0) / (mass * weight).sum(0)[..., None]
        out[: tiles.shape[0]] = whole.to(out.dtype)


def keys_at_once(width: int, values: int, item: int) -> int:
    """How many keys and values of these widths and bytes a tile loads at a time."""
    keys = BYTES // ((width + values) * item)
    return min(64, max(16, 1 << keys.bit_length() - 1))


@triton.jit
def _attend(
    query, out, states, keys, values, table, piece_of, position_of, tiles, sinks,
    reach, scale, window, softcap, heads, kv_heads, width, value_width,
    SINKS: tl.constexpr, CAPPED: tl.constexpr, SHARE: tl.constexpr, GROUP: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, VALUES: tl.constexpr, KEYS: tl.constexpr,
    PAGE: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """One tile: rows are (token, query head) pairs that share a key head; online softmax.

    With several SPLITS each takes a part of the keys and stores unnormalised sums and states
    [2, SPLITS, tiles, heads] (largest score, sum of weights), which the caller combines.
    """
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    first = tl.load(tiles + 2 * tile)
    last = tl.load(tiles + 2 * tile + 1)
    row = tl.arange(0, ROWS)
    token = (first + row // GROUP).to(tl.int64)
    head = kv_head * SHARE + row % GROUP
    mine = (token < last) & (row % GROUP < SHARE)
    position = tl.load(position_of + token, mask=mine, other=0)
    d = tl.arange(0, WIDTH)
    e = tl.arange(0, VALUES)
    q = tl.load(
        query + (token * heads + head)[:, None] * width + d[None, :],
        mask=mine[:, None] & (d < width)[None, :],
        other=0.0,
    )
    split = tl.program_id(2)
    peak = tl.full((ROWS,), -1e30, dtype=tl.float32)
    mass = tl.zeros((ROWS,), dtype=tl.float32)
    if SINKS:  # a key of every query whose value is zero; one split counts it
        peak = tl.load(sinks + head, mask=mine, other=0.0).to(tl.float32)
        mass = tl.where(split == 0, 1.0, mass)
    total = tl.zeros((ROWS, VALUES), dtype=tl.float32)

    page_of = table + tl.load(piece_of + first).to(tl.int64) * reach
    begin = tl.load(position_of + first)
    end = tl.load(position_of + last - 1) + 1
    if window > 0:
        begin = tl.maximum(begin - window + 1, 0) // KEYS * KEYS
    else:
        begin = 0
    if SPLITS > 1:
        span = (end - begin + KEYS * SPLITS - 1) // (KEYS * SPLITS) * KEYS
        begin += split * span
        end = tl.minimum(end, begin + span)
    for start in range(begin, end, KEYS):
        at = start + tl.arange(0, KEYS)
        known = at < end
        page = tl.load(page_of + at // PAGE, mask=known, other=0).to(tl.int64)
        slot = (page * PAGE + at % PAGE) * kv_heads + kv_head
        k = tl.load(
            keys + slot[None, :] * width + d[:, None],
            mask=known[None, :] & (d < width)[:, None],
            other=0.0,
        )
        scores = tl.dot(q, k, input_precision="ieee") * scale
        if CAPPED:  # Triton has sigmoid, not tanh
            scores = (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0) * softcap
        seen = at[None, :] <= position[:, None]
        if window > 0:
            seen = seen & (at[None, :] > position[:, None] - window)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        weight = tl.exp(scores - higher[:, None])
        fade = tl.exp(peak - higher)
        mass = mass * fade + tl.sum(weight, 1)
        v = tl.load(
            values + slot[:, None] * value_width + e[None, :],
            mask=known[:, None] & (e < value_width)[None, :],
            other=0.0,
        )
        total = total * fade[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        peak = higher

    keep = mine[:, None] & (e < value_width)[None, :]
    if SPLITS > 1:
        token += split * tl.num_programs(0)
        state = states + token * heads + head
        tl.store(state, peak, mask=mine)
        tl.store(state + SPLITS * tl.num_programs(0) * heads, mass, mask=mine)
    else:
        total = total / tl.where(mine, mass, 1.0)[:, None]
    target = out + (token * heads + head)[:, None] * value_width + e[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=keep)
