"""The native decoder step: a model packed once, then one call for a whole step of all its layers.

cpu/native/step.cpp computes what transformers' classes of the supported families compute, in float32
and without Python in between; it also samples, and can take several steps in one call. Weights are
kept in bfloat16 where that is lossless, else in float32, or in int8 or int4 on request. Other
families, and machines without a compiler, run through the transformers classes instead.

Left out: linear attention, frequencies that depend on the length (rope types "dynamic" and
"longrope").
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu import packed_file
from burnish.kernels.cpu.allocation import allocate_zeroed
from burnish.kernels.cpu.layers import LayerWeights, joined_adapters, router_of, shared_pieces
from burnish.kernels.cpu.packed_file import PackedFile
from burnish.kernels.cpu.packing import BLOCK, FORMATS, Packer, format_of, lossless
from burnish.kernels.cpu.sequences import whole_sequences
from burnish.kernels.cpu.structs import POINTER, CLayer, CLora, CModel, CSamplingMetadata, CStep
from burnish.kernels.cpu.support import FAMILIES, head_width, latent_width, window
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.cpu.thread_count import ThreadCount
from burnish.kernels.formats import CacheFormat, Weights
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.outline import describe
from torch import Tensor, nn

NUMBER_BYTES: dict[CacheFormat, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
SCALE_BYTES = 4  # of a head's line of a position


class PackedAdapter(NamedTuple):
    """An adapter as the library reads it: a C array [depth][projections], and the tensors it points to."""

    array: Any
    packer: Packer


class Rope(NamedTuple):
    """Frequencies of the rotated pairs of dimensions, and the factor on cosines and sines (YaRN's)."""

    frequencies: list[float]
    scaling: float


@dataclass(frozen=True)
class NativePages:
    """The KV cache of all layers: keys and values, each [depth, bytes]; see cpu/native/paged_attention.h.
    With MLA there are no values, which are a part of the keys."""

    key: Tensor
    value: Tensor
    slots: int
    format: CacheFormat


def _norm(attention: Any, *names: str) -> Tensor | None:
    """Weight of the first norm of these names that an attention module has."""
    norms = (getattr(attention, name, None) for name in names)
    return next((norm.weight for norm in norms if norm is not None), None)


class NativeStep:
    """A packed model and its resident adapters. One call at a time."""

    def __init__(
        self,
        config: Any,
        outline: nn.Module,
        dtype: torch.dtype,
        form: Weights,
        rope: Rope,
        kept: Any,
    ) -> None:
        """Sizes alone; `pack` and `mapped` add the weights. `kept` stays alive as long as the step."""
        self._rope, self._tables, self._covering = rope, Packer(), threading.Lock()
        self.config, self.outline, self.format, self.kept = config, outline, form, kept
        self._adapters: dict[int, PackedAdapter] = {}
        self._table = (POINTER * 1)()
        self._threads = ThreadCount()
        self.latent = latent_width(config)
        if self.latent:  # one key for all heads, of which values are a part
            self.width, self.kv_heads = self.latent + config.qk_rope_head_dim, 1
        else:
            self.width, self.kv_heads = head_width(config), config.num_key_value_heads
        self.dtype = dtype
        self.cache_format: CacheFormat = "bfloat16" if dtype == torch.bfloat16 else "float32"
        self.depth = config.num_hidden_layers
        self.vocab = config.vocab_size
        self._layers = (CLayer * self.depth)()
        self._model = CModel()

    @classmethod
    def pack(cls, model: Any, weights: Weights = "auto", ends: bool = True) -> NativeStep:
        """Pack the weights of a transformers model; without its `ends`, embedding and LM head,
        `share_ends` must follow."""
        form: Any = format_of(model) if weights == "auto" else weights
        rotary = model.model.rotary_emb
        rope = Rope(rotary.inv_freq.tolist(), float(rotary.attention_scaling))
        step = cls(model.config, model, model.dtype, form, rope, packer := Packer())
        for number, layer in enumerate(model.model.layers):
            step._layers[number] = step._pack_layer(layer, packer)
        step._model = step._pack_model(model, packer)
        if ends:
            step._pack_ends(model, packer)
        step._cover(1)
        return step

    @classmethod
    def mapped(cls, packed: PackedFile, config: Any, outline: nn.Module) -> NativeStep:
        """The weights that `save` wrote."""
        header = packed.header
        dtype = getattr(torch, header["dtype"])
        step = cls(config, outline, dtype, header["format"], Rope(*header["rope"]), packed)
        step._layers = type(step._layers).from_buffer(packed.structs["layers"])
        step._model = CModel.from_buffer(packed.structs["model"])
        step._model.layers, step._model.positions = ctypes.addressof(step._layers), 0
        step._cover(1)
        return step

    def save(self, path: Path) -> None:
        """Write packed weights for `mapped`. OSError if the disk refuses."""
        assert isinstance(self.kept, Packer)
        header = {
            "format": self.format,
            "dtype": str(self.dtype).removeprefix("torch."),
            "rope": self._rope,
            "outline": describe(self.outline),
        }
        structs = {"layers": self._layers, "model": self._model}
        packed_file.write(path, header, structs, self.kept.tensors)

    # -- packing -------------------------------------------------------------------------------

    def _pack_layer(self, layer: Any, pack: Packer) -> CLayer:
        weights, form = LayerWeights.of(layer), self.format
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
            correction_bias=pack.floats(
                getattr(router_of(layer.mlp), "e_score_correction_bias", None)
            ),
        )

    def _pack_model(self, model: Any, packer: Packer) -> CModel:
        config = self.config
        attention, mlp = model.model.layers[0].self_attn, model.model.layers[-1].mlp
        groups = getattr(config, "n_group", None) or 1
        return CModel(
            layers=ctypes.addressof(self._layers),
            depth=self.depth,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=self.kv_heads,
            width=self.width,
            rotary=2 * len(self._rope.frequencies),
            top_k=getattr(config, "num_experts_per_tok", 1),
            vocab=self.vocab,
            norm_per_head=FAMILIES[config.model_type],
            norm_topk=getattr(config, "norm_topk_prob", True),
            sigmoid_scores=hasattr(router_of(mlp), "e_score_correction_bias"),
            expert_groups=groups,
            groups_kept=getattr(config, "topk_group", None) or groups,
            shared_experts=shared_pieces(mlp),
            latent=self.latent,
            latent_eps=attention.kv_a_layernorm.variance_epsilon if self.latent else 0.0,
            eps=config.rms_norm_eps,
            scale=attention.scaling,
            clip_qkv=getattr(config, "clip_qkv", None) or 0.0,
            routed_scaling=getattr(config, "routed_scaling_factor", None) or 1.0,
            swiglu_alpha=getattr(config, "swiglu_alpha", None) or 0.0,
            swiglu_limit=getattr(config, "swiglu_limit", None) or 0.0,
            final_norm=packer.floats(model.model.norm.weight),
        )

    def _pack_ends(self, model: Any, packer: Packer) -> None:
        """Embedding and LM head, once where they are one matrix and its format loses nothing."""
        table = model.get_input_embeddings().weight.detach()
        head = model.get_output_embeddings().weight
        narrow = table.dtype == torch.bfloat16 or lossless(table)
        self._model.head = packer.matrix(head, self.format)
        if head.data_ptr() == table.data_ptr() and (
            self.format == "float32" or (self.format == "bfloat16" and narrow)
        ):
            return
        if narrow:
            self._model.embedding_bf16 = packer.keep(table.bfloat16().contiguous())
        else:
            self._model.embedding = packer.keep(table.float().contiguous())

    def share_ends(self, other: NativeStep) -> None:
        """Read the embedding and the LM head of another model, which stays alive."""
        for name in ("embedding", "embedding_bf16", "head"):
            setattr(self._model, name, getattr(other._model, name))
        self.kept = (self.kept, other)

    def embed(self, tokens: Tensor) -> Tensor:
        """The embeddings [..., H] of tokens, from where the library reads them."""
        model = self._model
        if model.embedding is not None:
            return self._numbers(model.embedding, torch.float32, self.vocab)[tokens]
        if model.embedding_bf16 is not None:
            return self._numbers(model.embedding_bf16, torch.bfloat16, self.vocab)[tokens]
        wide = model.head.format == FORMATS["float32"]
        dtype, lanes = (torch.float32, (BLOCK, 1)) if wide else (torch.bfloat16, (WIDTH, 2))
        blocks = self._numbers(model.head.weight, dtype, model.head.blocks * BLOCK)
        blocks = blocks.view(model.head.blocks, self.config.hidden_size, *lanes)
        lane = tokens % BLOCK
        return blocks[tokens // BLOCK, :, lane % lanes[0], lane // lanes[0]]

    def _numbers(self, address: int, dtype: torch.dtype, rows: int) -> Tensor:
        size = rows * self.config.hidden_size * dtype.itemsize
        raw = torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8)
        return raw.view(dtype).view(rows, -1)

    def _cover(self, positions: int) -> None:
        """Make the RoPE tables reach that many positions, at most the model's context. May be called
        while a step runs: it goes on with the tables it began with, which stay."""
        with self._covering:
            if positions <= self._model.positions:
                return
            wanted = max(positions, 2 * self._model.positions)
            reached = torch.arange(min(wanted, self.config.max_position_embeddings)).float()
            angles = reached[:, None] * torch.tensor(self._rope.frequencies)
            angles = torch.cat([angles, angles], dim=-1)  # one for each of a pair of dimensions
            self._model.cosines = self._tables.floats(angles.cos() * self._rope.scaling)
            self._model.sines = self._tables.floats(angles.sin() * self._rope.scaling)
            self._model.positions = len(angles)

    # -- adapters ------------------------------------------------------------------------------

    def pack_adapter(self, weights: AdapterWeights) -> PackedAdapter:
        """Pack the current weights for `set_adapter`; may run while a step runs."""
        packer = Packer()
        loras = [
            packer.lora(*pair, weights.spec.scale, self.dtype == torch.bfloat16)
            for pair in joined_adapters(self.outline, weights)
        ]
        return PackedAdapter((CLora * len(loras))(*loras), packer)

    def set_adapter(self, slot: int, packed: PackedAdapter | None) -> None:
        """Fill (or with None clear) an adapter slot >= 1."""
        self._adapters.pop(slot, None)
        if packed is not None:
            self._adapters[slot] = packed
        self._table = (POINTER * (max(self._adapters, default=0) + 1))()
        for used, adapter in self._adapters.items():
            self._table[used - 1] = ctypes.addressof(adapter.array)

    # -- running -------------------------------------------------------------------------------

    def new_pages(self, slots: int, form: CacheFormat | None = None) -> NativePages:
        """An empty cache of `slots` token slots, a multiple of WIDTH, for every layer; in the format that
        loses nothing, or `form`."""
        self._cover(min(slots, self.config.max_position_embeddings))
        form, slots = form or self.cache_format, -(-slots // WIDTH) * WIDTH
        head = self.width * NUMBER_BYTES[form] + (SCALE_BYTES if form == "int8" else 0)

        def empty() -> Tensor:
            size = slots * self.kv_heads * head
            return allocate_zeroed(self.depth * size).view(self.depth, size)

        keys = empty()
        return NativePages(keys, keys[:, :0] if self.latent else empty(), slots, form)

    def __call__(
        self,
        batch: ForwardBatch,
        table: np.ndarray,
        pages: NativePages,
        *,
        sampling: SamplingMetadata | None = None,
        logits: Tensor | None = None,
        state: Tensor | None = None,
        layers: int = 0,
        inputs: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> SamplerOutput | None:
        """One step, or with `sampling.steps` up to that many.

        `table` [rows, reach] int64 is the cache slot of every position of every row. Where
        given, these are filled (IndexError for a batch that points outside of the model, the table or the
        cache): `logits` (see `empty_logits`) of the first step's kept tokens; `hidden` [steps * T, H],
        what the LM head reads of all tokens, step by step; or `state` [T, H], the hidden states after
        `layers` layers, where the step then ends. `inputs` [T, H] stand for the tokens' embeddings, in
        a single step.
        """
        call = self.call(
            batch, table, pages,
            logits=logits, state=state, layers=layers, inputs=inputs, hidden=hidden,
        )  # fmt: skip
        tokens, most = len(batch.tokens), call.step.threads
        call.step.threads = self._threads.choose(tokens, most)
        began = time.perf_counter()
        if sampling is None:
            call.run()
            output, steps = None, 1
        else:
            output = SamplerOutput.empty(sampling.steps, len(batch.keep))
            call.run(
                ctypes.byref(
                    CSamplingMetadata(
                        *(a.ctypes.data for a in sampling[:-1]),
                        sampling.steps,
                        *(a.ctypes.data for a in output),
                    )
                )
            )
            steps = max(1, int(output.counts.max(initial=1)))
        seconds = (time.perf_counter() - began) / steps
        self._threads.record(tokens, call.step.threads, most, seconds)
        return output

    def call(
        self,
        batch: ForwardBatch,
        table: np.ndarray,
        pages: NativePages,
        *,
        adapters: Any = None,
        logits: Tensor | None = None,
        state: Tensor | None = None,
        layers: int = 0,
        states: Tensor | None = None,
        inputs: Tensor | None = None,
        hidden: Tensor | None = None,
        activations: Tensor | None = None,
    ) -> NativeCall:
        """A prepared step. `adapters` replaces the resident adapters; `states` [depth, T, H], where
        given, is filled with the input of each layer, and `activations` with what a backward pass would
        compute again."""
        # Slot 0 is the base; the library counts adapters from zero.
        raw = (batch.tokens, batch.row, batch.position, batch.slot - 1, table, batch.keep)
        arrays = [np.ascontiguousarray(a, np.int64) for a in raw]
        *per_token, slot_table, keep = (a.ctypes.data for a in arrays)
        pointers = POINTER * self.depth
        keys, values = (
            pointers(*(t.data_ptr() + n * t.nbytes // self.depth for n in range(self.depth)))
            for t in (pages.key, pages.value)
        )
        adapters = self._table if adapters is None else adapters
        step = CStep(
            len(batch.tokens),
            *per_token,
            ctypes.addressof(adapters),
            len(adapters),
            slot_table,
            *table.shape,
            ctypes.addressof(keys),
            ctypes.addressof(values),
            pages.slots,
            FORMATS[pages.format],
            len(batch.keep),
            keep,
            *(None if t is None else t.data_ptr() for t in (logits, state)),
            layers,
            None if states is None else states.data_ptr(),
            torch.get_num_threads(),
            *(None if t is None else t.data_ptr() for t in (inputs, hidden, activations)),
        )
        given = (logits, state, states, inputs, hidden, activations)
        kept = (arrays, keys, values, pages, adapters, given)
        return NativeCall(ctypes.byref(self._model), batch, step, kept)

    def read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], layers: int = 0
    ) -> Tensor:
        """Whole sequences through the base. Returns the logits [N, V] that predict tokens `start`.. of
        each, one sequence after the other; or, with `layers`, the hidden states [N, H] of all tokens
        after that many layers."""
        parts = []
        for batch, table in whole_sequences(sequences, () if layers else starts):
            pages = self.new_pages(table.size)
            if layers:
                state = torch.empty(len(batch.tokens), self.config.hidden_size)
                self(batch, table, pages, state=state, layers=layers)
                parts.append(state)
            else:
                logits = self.empty_logits(len(batch.keep))
                self(batch, table, pages, logits=logits)
                parts.append(logits[:, : self.vocab])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def empty_logits(self, rows: int) -> Tensor:
        """An uninitialised tensor for `rows` rows of logits, whose first `vocab` columns are tokens."""
        return torch.empty(rows, -(-self.vocab // BLOCK) * BLOCK)


@dataclass(frozen=True)
class NativeCall:
    """The arguments of one step, with all that their pointers lead to."""

    model: Any
    batch: ForwardBatch
    step: CStep
    kept: Any  # alive as long as the call

    def run(self, sampling: Any = None) -> None:
        library = native.library()
        assert library is not None
        native.check(library.burnish_step(self.model, ctypes.byref(self.step), sampling))
