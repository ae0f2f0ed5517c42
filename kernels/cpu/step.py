"""The native decoder step: a model packed once, then one call for a whole step of all its layers.

cpu/native/step.cpp computes what transformers' classes of the FAMILIES below compute, in float32 and
without a line of Python in between; it also draws the tokens, and can take several steps in one
call. Weights are kept in bfloat16 wherever that loses nothing, as float32 where it would, or as
int8 or int4 on request. Other families, and machines without a compiler, run through the
transformers classes instead.

Left out: linear attention, frequencies that depend on the length (rope types "dynamic" and
"longrope").
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu.allocation import zeroed
from burnish.kernels.cpu.latent import why_not_latent
from burnish.kernels.cpu.packing import (
    BLOCK,
    POINTER,
    WIDTH,
    CLayer,
    CLowRank,
    CModel,
    CSamplingMetadata,
    CStep,
    LayerWeights,
    Packer,
    Weights,
    format_of,
    joined_adapters,
    lossless,
    router_of,
    shared_pieces,
    window,
)
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.lora import AdapterWeights
from torch import Tensor

READ_TOKENS = 2048  # of whole sequences, go through the model together

# model_type -> whether q_norm and k_norm (where there are any) work per head
FAMILIES = {
    "qwen3_moe": True,
    "olmoe": False,
    "mixtral": True,
    "qwen3": True,
    "qwen2": True,
    "llama": True,
    "mistral": True,
    "glm4_moe": True,
    "gpt_oss": True,
    "deepseek_v3": True,
    "glm4_moe_lite": True,
    "youtu": True,
}
ROPES = ("default", "linear", "llama3", "yarn")


class PackedAdapter(NamedTuple):
    """An adapter as the library reads it: a C array [depth][4], and what its pointers lead to."""

    array: Any
    packer: Packer


@dataclass(frozen=True)
class Pages:
    """The whole cache, for all layers: keys and values each [depth, pages, 16 positions' worth]; with
    MLA no values, which are a part of the keys."""

    key: Tensor
    value: Tensor


def why_not(model: Any) -> str | None:
    """What keeps a transformers model from the native step; None: nothing does."""
    config = model.config
    if config.model_type not in FAMILIES:
        return f"there is no native step for {config.model_type}"
    if model.device.type != "cpu":
        return "it is a CPU way"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in ROPES:
        return f"rope type {rope}"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    if config.hidden_size % BLOCK:
        return f"hidden size {config.hidden_size} is no multiple of {BLOCK}"
    if _latent(config):
        if reason := why_not_latent(config, WIDTH):
            return reason
    elif _head_width(config) % WIDTH:
        return f"head width {_head_width(config)} is no multiple of {WIDTH}"
    if native.library() is None:
        return "no C++ compiler"
    return None


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _latent(config: Any) -> int:
    """Width of what MLA keeps of keys and values, without the rotated part; 0: no MLA."""
    return getattr(config, "kv_lora_rank", None) or 0


def _norm(attention: Any, *names: str) -> Tensor | None:
    """Weight of the norm that an attention calls one of these."""
    norms = (getattr(attention, name, None) for name in names)
    return next((norm.weight for norm in norms if norm is not None), None)


class NativeStep:
    """A packed model and its resident adapters. One call at a time."""

    def __init__(self, model: Any, weights: Weights = "auto", longest: int = 1 << 15) -> None:
        self.model = model
        self.config = config = model.config
        self.format = format_of(model) if weights == "auto" else weights
        self._packer = Packer()
        self._adapters: dict[int, PackedAdapter] = {}
        self._table = (POINTER * 1)()
        self.latent = _latent(config)
        if self.latent:  # one key for all heads, of which values are a part
            self.width, self.kv_heads = self.latent + config.qk_rope_head_dim, 1
        else:
            self.width, self.kv_heads = _head_width(config), config.num_key_value_heads
        self.kv_dtype = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32
        self.depth = config.num_hidden_layers
        self.vocab = config.vocab_size
        self._layers = (CLayer * self.depth)(*map(self._layer, model.model.layers))
        self._model = self._whole(longest)

    # -- packing -------------------------------------------------------------------------------

    def _layer(self, layer: Any) -> CLayer:
        weights, pack, form = LayerWeights.of(layer), self._packer, self.format
        qkv, out, gate_up, down = weights.parts[:4]
        attention = layer.self_attn
        return CLayer(
            norm1=pack.floats(layer.input_layernorm.weight),
            norm2=pack.floats(layer.post_attention_layernorm.weight),
            q_norm=pack.floats(_norm(attention, "q_norm", "q_a_layernorm")),
            k_norm=pack.floats(_norm(attention, "k_norm", "kv_a_layernorm")),
            qkv=pack.matrix(weights.qkv, form, weights.qkv_bias, qkv),
            out=pack.matrix(weights.out, form, weights.out_bias, out),
            router=pack.matrix(weights.router, "float32", weights.router_bias),
            gate_up=pack.matrix(weights.gate_up, form, weights.gate_up_bias, gate_up),
            down=pack.matrix(weights.down, form, weights.down_bias, down),
            query=pack.matrix(weights.query, form),
            key=pack.matrix(weights.key, form),
            value=pack.matrix(weights.value, form),
            experts=0 if weights.router is None else len(weights.router),
            window=window(self.config, attention),
            sinks=pack.floats(getattr(attention, "sinks", None)),
            choice=pack.floats(getattr(router_of(layer.mlp), "e_score_correction_bias", None)),
        )

    def _whole(self, longest: int) -> CModel:
        model, config = self.model, self.config
        longest = min(longest, config.max_position_embeddings)
        positions = torch.arange(longest)[None]
        cosines, sines = (t[0].float() for t in model.model.rotary_emb(torch.zeros(1), positions))
        table = model.get_input_embeddings().weight.detach()
        narrow = table.dtype == torch.bfloat16 or lossless(table)
        table = (table.bfloat16() if narrow else table.float()).contiguous()
        if cosines.shape[-1] == self.width // 2 and config.model_type == "gpt_oss":
            cosines, sines = (torch.cat([t, t], dim=-1) for t in (cosines, sines))  # told once
        attention, mlp = model.model.layers[0].self_attn, model.model.layers[-1].mlp
        groups = getattr(config, "n_group", None) or 1
        return CModel(
            layers=ctypes.addressof(self._layers),
            depth=self.depth,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=self.kv_heads,
            width=self.width,
            rotary=cosines.shape[-1],
            chosen=getattr(config, "num_experts_per_tok", 1),
            vocab=self.vocab,
            norm_heads=FAMILIES[config.model_type],
            normalise=getattr(config, "norm_topk_prob", True),
            sigmoid=hasattr(router_of(mlp), "e_score_correction_bias"),
            groups=groups,
            groups_kept=getattr(config, "topk_group", None) or groups,
            shared=shared_pieces(mlp),
            kv_bf16=self.kv_dtype == torch.bfloat16,
            latent=self.latent,
            latent_eps=attention.kv_a_layernorm.variance_epsilon if self.latent else 0.0,
            eps=config.rms_norm_eps,
            scale=attention.scaling,
            clip=getattr(config, "clip_qkv", None) or 0.0,
            routed=getattr(config, "routed_scaling_factor", None) or 1.0,
            alpha=getattr(config, "swiglu_alpha", None) or 0.0,
            limit=getattr(config, "swiglu_limit", None) or 0.0,
            embedding_bf16=self._packer.keep(table) if narrow else None,
            embedding=None if narrow else self._packer.keep(table),
            final_norm=self._packer.floats(model.model.norm.weight),
            head=self._packer.matrix(model.get_output_embeddings().weight, self.format),
            cosines=self._packer.floats(cosines),
            sines=self._packer.floats(sines),
        )

    # -- adapters ------------------------------------------------------------------------------

    def pack_adapter(self, weights: AdapterWeights) -> PackedAdapter:
        """Weights as they are now, ready for `set_adapter`; may run beside a step."""
        packer = Packer()
        ranks = [
            packer.low_rank(*pair, weights.spec.scale, self.model.dtype == torch.bfloat16)
            for pair in joined_adapters(self.model, weights)
        ]
        return PackedAdapter((CLowRank * len(ranks))(*ranks), packer)

    def set_adapter(self, slot: int, packed: PackedAdapter | None) -> None:
        """Fill (or with None clear) an adapter slot >= 1."""
        self._adapters.pop(slot, None)
        if packed is not None:
            self._adapters[slot] = packed
        self._table = (POINTER * (max(self._adapters, default=0) + 1))()
        for used, adapter in self._adapters.items():
            self._table[used - 1] = ctypes.addressof(adapter.array)

    # -- running -------------------------------------------------------------------------------

    def new_pages(self, slots: int) -> Pages:
        """An empty cache of `slots` token slots, a multiple of 16, for every layer."""
        size = -(-slots // WIDTH) * WIDTH * self.kv_heads * self.width

        def empty() -> Tensor:
            room = zeroed(self.depth * size * self.kv_dtype.itemsize)
            return room.view(self.kv_dtype).view(self.depth, size)

        keys = empty()
        return Pages(keys, keys[:, :0] if self.latent else empty())

    def __call__(
        self,
        feed: ForwardBatch,
        table: np.ndarray,
        pages: Pages,
        *,
        draws: SamplingMetadata | None = None,
        logits: Tensor | None = None,
        state: Tensor | None = None,
        layers: int = 0,
    ) -> SamplerOutput | None:
        """One step, or with `draws.steps` up to that many.

        `table` [rows, reach] int64 is the cache slot of every position of every row. Filled where
        given: `logits` (see `empty_logits`) of the first step's kept tokens, or `state` [T, H], what
        every token is after `layers` layers, where the step then ends.
        """
        call = self.call(feed, table, pages, logits=logits, state=state, layers=layers)
        if draws is None:
            call.run()
            return None
        drawn = SamplerOutput.empty(draws.steps, len(feed.keep))
        call.run(
            ctypes.byref(
                CSamplingMetadata(
                    *(a.ctypes.data for a in draws[:-1]),
                    draws.steps,
                    *(a.ctypes.data for a in drawn),
                )
            )
        )
        return drawn

    def call(
        self,
        feed: ForwardBatch,
        table: np.ndarray,
        pages: Pages,
        *,
        adapters: Any = None,
        logits: Tensor | None = None,
        state: Tensor | None = None,
        layers: int = 0,
        states: Tensor | None = None,
    ) -> Call:
        """A step ready to run, with adapters of the caller's own instead of the resident ones;
        fills `states` [depth, T, H], where given, with what goes into each layer."""
        # Slot 0 is the base; the library counts adapters from zero.
        raw = (feed.tokens, feed.row, feed.position, feed.slot - 1, table, feed.keep)
        arrays = [np.ascontiguousarray(a, np.int64) for a in raw]
        *each, places, keep = (a.ctypes.data for a in arrays)
        pointers = POINTER * self.depth
        keys, values = (
            pointers(*(t.data_ptr() + n * t.nbytes // self.depth for n in range(self.depth)))
            for t in (pages.key, pages.value)
        )
        resident = self._table if adapters is None else adapters
        step = CStep(
            len(feed.tokens),
            *each,
            ctypes.addressof(resident),
            places,
            table.shape[1],
            ctypes.addressof(keys),
            ctypes.addressof(values),
            len(feed.keep),
            keep,
            *(None if t is None else t.data_ptr() for t in (logits, state)),
            layers,
            None if states is None else states.data_ptr(),
            torch.get_num_threads(),
        )
        held = (arrays, keys, values, pages, resident, logits, state, states)
        return Call(ctypes.byref(self._model), feed, step, held)

    def read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], layers: int = 0
    ) -> Tensor:
        """Whole sequences through the base. Returns the logits [N, V] that predict tokens `start`.. of
        each, one sequence after the other; or, with `layers`, the state [N, H] of all tokens after
        so many layers."""
        parts = []
        for feed, table in whole_sequences(sequences, () if layers else starts):
            pages = self.new_pages(table.size)
            if layers:
                state = torch.empty(len(feed.tokens), self.config.hidden_size)
                self(feed, table, pages, state=state, layers=layers)
                parts.append(state)
            else:
                logits = self.empty_logits(len(feed.keep))
                self(feed, table, pages, logits=logits)
                parts.append(logits[:, : self.vocab])
        return torch.cat(parts)

    def empty_logits(self, rows: int) -> Tensor:
        """Room for `rows` rows of logits; only the first `vocab` columns are tokens."""
        return torch.empty(rows, -(-self.vocab // BLOCK) * BLOCK)


@dataclass(frozen=True)
class Call:
    """A step as the library takes it, with all that its pointers lead to."""

    model: Any
    feed: ForwardBatch
    step: CStep
    held: Any

    def run(self, draws: Any = None) -> None:
        library = native.library()
        assert library is not None
        library.burnish_step(self.model, ctypes.byref(self.step), draws)


def whole_sequences(
    sequences: Sequence[Sequence[int]], starts: Sequence[int], slot: int = 0
) -> Iterator[tuple[ForwardBatch, np.ndarray]]:
    """Steps over whole sequences, in order, a few at a time, each with its cache's table. Keeps what
    predicts tokens `start`, ... of each sequence; nothing without `starts`."""
    for some in _by_size([len(s) for s in sequences], READ_TOKENS):
        counts = np.array([len(sequences[i]) for i in some], np.int64)
        reach = -(-int(counts.max()) // WIDTH) * WIDTH
        table = np.arange(len(some) * reach, dtype=np.int64).reshape(len(some), reach)
        ends = counts.cumsum()
        keep = [np.empty(0, np.int64)]
        if starts:
            keep += [
                np.arange(end - count + starts[i] - 1, end - 1)
                for i, count, end in zip(some, counts, ends, strict=True)
            ]
        feed = ForwardBatch(
            tokens=np.concatenate([np.array(sequences[i], np.int64) for i in some]),
            rows=np.arange(len(some)),
            starts=np.zeros(len(some), np.int64),
            counts=counts,
            slots=np.full(len(some), slot, np.int64),
            keep=np.concatenate(keep),
        )
        yield feed, table


def _by_size(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in order, in runs whose sizes add up to about `budget`."""
    run: list[int] = []
    for index, size in enumerate(sizes):
        if run and sum(sizes[i] for i in run) + size > budget:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
