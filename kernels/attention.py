"""Attention over a paged KV cache, and over padded whole sequences: the PyTorch reference.

Registered in transformers as "burnish_paged", so every model class that goes through its
AttentionInterface runs on it. Metadata travels as keywords of `model.forward`:

* `paged=PagedBatch(...)`: the engine's step. New keys and values are written to their pages, then
  each sequence attends over its own pages. All tokens of a step are flattened into one row. On a GPU
  it is a cuda.attention.CudaBatch.
* `padding=BoolTensor[B, T]`: the learner's forward pass over padded sequences.
* neither: plain causal attention.

Covers GQA, causal masks, sliding windows, scale, sinks, soft caps, and values of another width than
keys (MLA). Left out: MLA's compressed cache; its keys and values are cached expanded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from burnish.kernels.cpu.allocation import allocate_zeroed

NAME = "burnish_paged"


@dataclass(frozen=True)
class KVPages:
    """One layer's cache: a flat array of token slots; block b owns slots b*size..(b+1)*size-1."""

    key: torch.Tensor  # [slots, kv_heads, head_dim]
    value: torch.Tensor  # [slots, kv_heads, value_dim]

    @classmethod
    def empty(cls, config: Any, slots: int, dtype: torch.dtype, device: torch.device) -> KVPages:
        """Zeroed, which on a CPU takes no memory until it is written."""
        heads, *widths = _cache_shape(config)

        def zeros(width: int) -> torch.Tensor:
            shape = (slots, heads, width)
            if device.type != "cpu":
                return torch.zeros(shape, dtype=dtype, device=device)
            return allocate_zeroed(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)

        return cls(*map(zeros, widths))


def _cache_shape(config: Any) -> tuple[int, int, int]:
    """KV heads, width of a key, width of a value."""
    if getattr(config, "kv_lora_rank", None):  # MLA, expanded to every head
        key = config.qk_nope_head_dim + config.qk_rope_head_dim
        return config.num_attention_heads, key, config.v_head_dim
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return heads, width, width


@dataclass(frozen=True)
class PagedGroup:
    """Sequences of one step that are computed together: B sequences, Q new tokens, K cached positions.

    `pack` picks each sequence's new tokens out of the flattened step and `unpack` puts them back;
    both None means one token per sequence, in order, from the step's first token on (decode).
    """

    positions: torch.Tensor  # [B, Q] position of every new token; padding repeats a real one
    read: torch.Tensor  # [B, K] cache slot of positions 0..K-1 (anything beyond the end)
    pack: torch.Tensor | None = None  # [B, Q] index into the step's tokens
    unpack: torch.Tensor | None = None  # [tokens] index into B*Q
    _masks: dict[tuple[int | None, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Additive mask [B, 1, Q, K], built once per step and window, not once per layer."""
        key = (window, dtype)
        if key not in self._masks:
            slots = torch.arange(self.read.shape[1], device=self.read.device)
            visible = slots <= self.positions[..., None]
            if window is not None:
                visible &= slots > self.positions[..., None] - window
            mask = torch.zeros(visible.shape, dtype=dtype, device=self.read.device)
            self._masks[key] = mask.masked_fill_(~visible, -math.inf)[:, None]
        return self._masks[key]


@dataclass(frozen=True)
class PagedBatch:
    """One step: B sequences bring `counts` new tokens each, flattened in order to T tokens.

    `table` [rows, reach] is the cache slot of every position of every row; `rows`, `starts` and
    `counts` [B] are each sequence's row, the position of its first new token, and how many it has.
    Sequences with a single new token come first.
    """

    pages: tuple[KVPages, ...]  # per layer
    table: torch.Tensor
    rows: torch.Tensor
    starts: torch.Tensor
    counts: torch.Tensor

    @cached_property
    def owner(self) -> torch.Tensor:
        """Row of every token [T]."""
        return self.rows.repeat_interleave(self.counts)

    @cached_property
    def position(self) -> torch.Tensor:
        """Position of every token in its sequence [T]."""
        shift = self.starts - (self.counts.cumsum(0) - self.counts)
        shift = shift.repeat_interleave(self.counts)
        return torch.arange(shift.shape[0], device=shift.device) + shift

    @cached_property
    def write(self) -> torch.Tensor:
        """Cache slot of every token [T]."""
        return self.table[self.owner, self.position]

    @cached_property
    def groups(self) -> tuple[PagedGroup, ...]:
        """One group of all single tokens, and one of all longer pieces, padded."""
        single = int((self.counts == 1).long().cumprod(0).sum())
        groups = []
        if single:
            starts, rows = self.starts[:single], self.rows[:single]
            read = self.table[rows, : int(starts.max()) + 1]
            groups.append(PagedGroup(starts[:, None], read))
        if single < len(self.counts):
            counts, starts, rows = (x[single:] for x in (self.counts, self.starts, self.rows))
            widest = int(counts.max())
            line = torch.arange(widest, device=counts.device)
            within = torch.minimum(line, counts[:, None] - 1)
            offsets = single + counts.cumsum(0) - counts
            read = self.table[rows, : int((starts + counts).max())]
            unpack = (line < counts[:, None]).flatten().nonzero()[:, 0]
            groups.append(
                PagedGroup(starts[:, None] + within, read, offsets[:, None] + within, unpack)
            )
        return tuple(groups)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        pages: KVPages,
        scale: float,
        window: int | None = None,
        sinks: torch.Tensor | None = None,
        softcap: float | None = None,
    ) -> torch.Tensor:
        """One layer's attention of the step: see `paged_attention`."""
        return paged_attention(query, key, value, pages, self, scale, window, sinks, softcap)


def paged_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pages: KVPages,
    batch: PagedBatch,
    scale: float,
    window: int | None = None,
    sinks: torch.Tensor | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """Write key [T, kv_heads, D] and value [T, kv_heads, V] to their pages, attend query
    [T, heads, D] over them: [T, heads, V]."""
    pages.key.index_copy_(0, batch.write, key.to(pages.key.dtype))
    pages.value.index_copy_(0, batch.write, value.to(pages.value.dtype))
    outputs = []
    for group in batch.groups:
        rows, length = group.read.shape
        flat = group.read.reshape(-1)
        k, v = (
            page.index_select(0, flat).view(rows, length, *page.shape[1:]).transpose(1, 2)
            for page in (pages.key, pages.value)
        )
        if group.pack is None:
            q = query[:rows, :, None]  # [B, heads, 1, D]
        else:
            q = query[group.pack].transpose(1, 2)  # [B, heads, Q, D]
        mask = group.mask(window, query.dtype)
        out = attend(q, k.to(q.dtype), v.to(q.dtype), mask, scale, sinks, softcap)
        out = out.transpose(1, 2).flatten(0, 1)
        outputs.append(out if group.unpack is None else out[group.unpack])
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def paged_step(
    model: Any,
    inputs: dict[str, torch.Tensor],
    batch: PagedBatch,
    keep: torch.Tensor,
    hidden: torch.Tensor | None = None,
) -> torch.Tensor:
    """A transformers model on one step: logits [K, V] of the kept tokens. `inputs` are its tokens or their
    embeddings; `hidden` [T, H], where given, is filled with what the LM head reads of all tokens."""
    if hidden is None:
        positions = batch.position[None]
        return model(
            **inputs, position_ids=positions, paged=batch, use_cache=False, logits_to_keep=keep
        ).logits[0]
    out = model.get_decoder()(
        **inputs, position_ids=batch.position[None], paged=batch, use_cache=False
    ).last_hidden_state[0]
    hidden[: len(out)] = out
    return model.get_output_embeddings()(out[keep])


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    sinks: torch.Tensor | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """Grouped-query attention: query [B, heads, Q, D], key [B, kv_heads, K, D], value [.., V].

    `mask` is additive, or None for causal with Q == K. Returns [B, heads, Q, V].
    """
    heads, kv_heads = query.shape[1], key.shape[1]
    share = heads // kv_heads
    if sinks is None and softcap is None:
        if query.shape[2] == 1 and share > 1 and mask is not None:
            # One query per head: query heads that share a key head are taken as its queries.
            folded = query.reshape(query.shape[0], kv_heads, share, query.shape[3])
            out = F.scaled_dot_product_attention(folded, key, value, mask, scale=scale)
            return out.reshape(*query.shape[:3], value.shape[3])
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=scale, enable_gqa=share > 1
        )
    if mask is None:
        length = query.shape[2]
        mask = torch.full((length, length), -math.inf, device=query.device).triu(1)
    key, value = (x.repeat_interleave(share, dim=1) for x in (key, value))
    scores = (query @ key.transpose(2, 3)).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + mask
    if sinks is not None:  # a learned logit per head whose value is zero
        sink = sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    weights = scores.softmax(-1)[..., : key.shape[2]].to(query.dtype)
    return weights @ value


def padded_mask(
    padding: torch.Tensor | None, length: int, window: int | None, like: torch.Tensor
) -> torch.Tensor | None:
    """Additive causal mask for padded sequences, or None if plain causal attention is the same.

    `padding` [B, T] is True on real tokens. Right padding needs no mask: causal attention
    hides it, and its own outputs are discarded.
    """
    windowed = window is not None and window < length
    left = padding is not None and not bool((padding[:, :-1] >= padding[:, 1:]).all())
    if not windowed and not left:
        return None
    at = torch.arange(length, device=like.device)
    visible = (at <= at[:, None])[None]
    if windowed:
        assert window is not None
        visible = visible & (at > at[:, None] - window)
    if left:
        assert padding is not None
        visible = visible & padding[:, None, :]
    visible = visible | torch.eye(length, dtype=torch.bool, device=like.device)
    mask = torch.zeros(visible.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill(~visible, -math.inf)[:, None]


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    paged: PagedBatch | None = None,
    padding: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """The function for AttentionInterface: query [B, heads, T, D] -> [B, T, heads, D]."""
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if paged is None:
        mask = padded_mask(padding, query.shape[2], sliding_window, query)
        out = attend(query, key, value, mask, scale, s_aux, softcap)
        return out.transpose(1, 2), None
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, heads, D]
    pages = paged.pages[module.layer_idx]  # type: ignore[index]
    out = paged.attend(q, k, v, pages, scale, sliding_window, s_aux, softcap)
    return out[None], None


def register() -> None:
    """Make "burnish_paged" known to transformers; harmless to repeat."""
    from transformers import AttentionInterface  # seconds, and only the model classes need it

    AttentionInterface.register(NAME, attention_forward)
