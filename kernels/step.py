"""The native decoder step: a model packed once, then one call for a whole step of all its layers.

cpu/step.cpp computes what transformers' classes of the FAMILIES below compute, in float32 and
without a line of Python in between; it also draws the tokens, and can take several steps in one
call. Weights are kept in bfloat16 wherever that loses nothing, as float32 where it would, or as
int8 or int4 on request. Other families, and machines without a compiler, run through the
transformers classes instead.

Left out: shared experts, MLA, linear attention, frequencies that depend on the length (rope types
"dynamic" and "longrope").
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from burnish.kernels import native
from burnish.kernels.lora import AdapterWeights, sites
from torch import Tensor, nn

Weights = Literal["auto", "float32", "bfloat16", "int8", "int4"]
FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
WIDTH, BLOCK, GROUP = 16, 32, 32  # floats per vector, outputs per block, inputs per int4 scale
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
}
ROPES = ("default", "linear", "llama3", "yarn")

POINTER, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float

# One row's parameters as cpu/draw.h declares them.
DRAW = np.dtype(
    [("temperature", "f4"), ("top_p", "f4"), ("min_p", "f4"), ("top_k", "i4"), ("seed", "u8")]
)


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("weight", "scale", "bias", "part")),
        *((name, SIZE) for name in ("format", "inputs", "blocks")),
    ]


class _LowRank(ctypes.Structure):
    _fields_ = [("down", _Matrix), ("up", _Matrix), ("scale", FLOAT)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("norm1", "norm2", "q_norm", "k_norm")),
        *((name, _Matrix) for name in ("qkv", "out", "router", "gate_up", "down")),
        ("experts", SIZE),
        ("window", SIZE),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        ("layers", POINTER),
        *(
            (name, SIZE)
            for name in (
                "depth",
                "hidden",
                "heads",
                "kv_heads",
                "width",
                "rotary",
                "chosen",
                "vocab",
            )
        ),
        *((name, SIZE) for name in ("norm_heads", "normalise", "kv_bf16")),
        *((name, FLOAT) for name in ("eps", "scale", "clip")),
        *((name, POINTER) for name in ("embedding_bf16", "embedding", "final_norm")),
        ("head", _Matrix),
        ("cosines", POINTER),
        ("sines", POINTER),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        ("tokens", SIZE),
        *((name, POINTER) for name in ("token", "row", "position", "slot", "adapters", "table")),
        ("reach", SIZE),
        ("keys", POINTER),
        ("values", POINTER),
        ("kept", SIZE),
        *((name, POINTER) for name in ("keep", "logits", "state")),
        ("layers", SIZE),
        ("threads", SIZE),
    ]


class _Draws(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("how", "skip", "count", "room", "ends", "endless")),
        ("steps", SIZE),
        *((name, POINTER) for name in ("token", "raw", "processed", "made")),
    ]


@dataclass(frozen=True)
class Feed:
    """What one step computes: B pieces of sequences, flattened in order to T tokens (all int64).

    Pieces of a single token come first.
    """

    tokens: np.ndarray  # [T]
    rows: np.ndarray  # [B] row of the cache that each piece belongs to
    starts: np.ndarray  # [B] position of its first token
    counts: np.ndarray  # [B] its tokens
    slots: np.ndarray  # [B] its adapter slot, 0: the base
    keep: np.ndarray  # [K] tokens whose logits are wanted, rising

    @cached_property
    def row(self) -> np.ndarray:
        """Row of every token [T]."""
        return self.rows.repeat(self.counts)

    @cached_property
    def slot(self) -> np.ndarray:
        """Adapter slot of every token [T]."""
        return self.slots.repeat(self.counts)

    @cached_property
    def position(self) -> np.ndarray:
        """Position of every token in its sequence [T]."""
        shift = self.starts - (self.counts.cumsum() - self.counts)
        return np.arange(len(self.tokens)) + shift.repeat(self.counts)


class Draws(NamedTuple):
    """What to draw for each kept row, all arrays [kept] but `ends` [vocab]."""

    how: np.ndarray  # DRAW
    skip: np.ndarray  # bool: somebody else draws for this row
    count: np.ndarray  # uint64: tokens drawn before
    room: np.ndarray  # int64: tokens still wanted
    ends: np.ndarray  # bool [vocab]: tokens that end an answer
    endless: np.ndarray  # bool: rows that do not end there
    steps: int = 1


class Drawn(NamedTuple):
    """Tokens and their log-probabilities [steps, kept]; only the first `made` [kept] count."""

    token: np.ndarray
    raw: np.ndarray
    processed: np.ndarray
    made: np.ndarray

    @classmethod
    def empty(cls, steps: int, rows: int) -> Drawn:
        shape = (steps, rows)
        return cls(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(rows, np.int64),
        )


@dataclass(frozen=True)
class Pages:
    """The whole cache, for all layers: keys and values each [depth, pages, 16 positions' worth]."""

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
    width = _head_width(config)
    heads = config.num_attention_heads // config.num_key_value_heads
    if config.hidden_size % BLOCK or width % WIDTH or heads * width % WIDTH:
        return f"hidden size {config.hidden_size} or head width {width} is no multiple of {BLOCK}, {WIDTH}"
    if native.library() is None:
        return "no C++ compiler"
    return None


def _head_width(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


class NativeStep:
    """A packed model and its resident adapters. One call at a time."""

    def __init__(self, model: Any, weights: Weights = "auto", longest: int = 1 << 15) -> None:
        self.model = model
        self.config = config = model.config
        self.format = _format(model) if weights == "auto" else weights
        self._kept: list[Tensor] = []  # the library holds pointers into these
        self._adapters: dict[int, tuple[Any, list[Tensor]]] = {}
        self._table = (POINTER * 1)()
        self.width = _head_width(config)
        self.kv_heads = config.num_key_value_heads
        self.kv_dtype = torch.bfloat16 if model.dtype == torch.bfloat16 else torch.float32
        self.depth = config.num_hidden_layers
        self.vocab = config.vocab_size
        self._layers = (_Layer * self.depth)(*map(self._layer, model.model.layers))
        self._model = self._whole(longest)

    # -- packing -------------------------------------------------------------------------------

    def _keep(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _floats(self, tensor: Tensor | None) -> int | None:
        return self._keep(None if tensor is None else tensor.detach().float().contiguous())

    def _matrix(self, weight: Tensor, bias: Tensor | None = None, form: str = "") -> _Matrix:
        """Pack weight [(E,) out, in]; outputs are filled up with zeros to whole blocks."""
        weight = weight.detach().float()
        form = form or self.format
        if form == "int4" and weight.shape[-1] % GROUP:
            form = "int8"  # a matrix of a size that int4 does not group
        packed, scale = pack(weight if weight.ndim == 3 else weight[None], form)
        if bias is not None:
            bias = F.pad(bias.detach().float(), (0, -bias.shape[-1] % BLOCK))
        return _Matrix(
            self._keep(packed),
            self._keep(scale),
            self._floats(bias),
            None,
            FORMATS[form],
            weight.shape[-1],
            -(-weight.shape[-2] // BLOCK),
        )

    def _layer(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        biases = [p.bias for p in projections]
        bias = torch.cat(biases) if biases[0] is not None else None
        qkv = self._matrix(torch.cat([p.weight for p in projections]), bias)
        qkv.part = self._parts([p.out_features for p in projections])
        out = self._matrix(attention.o_proj.weight, attention.o_proj.bias)
        gate_up, down, router = _mlp_weights(mlp)
        inner = gate_up.shape[-2] // 2
        gated = self._matrix(_interleave(gate_up))
        gated.part = self._keep(
            torch.tensor([0, 0 if router is not None else 1] * gated.blocks, dtype=torch.int32)
        )
        lowered = self._matrix(F.pad(down, (0, -inner % WIDTH)))
        out.part = self._parts([out.blocks * BLOCK])
        lowered.part = self._parts([lowered.blocks * BLOCK])
        return _Layer(
            norm1=self._floats(layer.input_layernorm.weight),
            norm2=self._floats(layer.post_attention_layernorm.weight),
            q_norm=self._floats(getattr(getattr(attention, "q_norm", None), "weight", None)),
            k_norm=self._floats(getattr(getattr(attention, "k_norm", None), "weight", None)),
            qkv=qkv,
            out=out,
            router=_Matrix() if router is None else self._matrix(router, form="float32"),
            gate_up=gated,
            down=lowered,
            experts=0 if router is None else gate_up.shape[0],
            window=_window(self.config, attention),
        )

    def _parts(self, sizes: Sequence[int]) -> int | None:
        """Which of several matrices joined along their outputs each 16 outputs belong to."""
        halves = [i for i, size in enumerate(sizes) for _ in range(size // WIDTH)]
        halves += [len(sizes) - 1] * (-len(halves) % 2)
        return self._keep(torch.tensor(halves, dtype=torch.int32))

    def _whole(self, longest: int) -> _Model:
        model, config = self.model, self.config
        longest = min(longest, config.max_position_embeddings)
        positions = torch.arange(longest)[None]
        cosines, sines = (t[0].float() for t in model.model.rotary_emb(torch.zeros(1), positions))
        table = model.get_input_embeddings().weight.detach()
        narrow = table.dtype == torch.bfloat16 or _lossless(table)
        table = (table.bfloat16() if narrow else table.float()).contiguous()
        normalise = getattr(config, "norm_topk_prob", True)
        return _Model(
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
            normalise=normalise,
            kv_bf16=self.kv_dtype == torch.bfloat16,
            eps=config.rms_norm_eps,
            scale=model.model.layers[0].self_attn.scaling,
            clip=getattr(config, "clip_qkv", None) or 0.0,
            embedding_bf16=self._keep(table) if narrow else None,
            embedding=None if narrow else self._keep(table),
            final_norm=self._floats(model.model.norm.weight),
            head=self._matrix(model.get_output_embeddings().weight),
            cosines=self._floats(cosines),
            sines=self._floats(sines),
        )

    # -- adapters ------------------------------------------------------------------------------

    def set_adapter(self, slot: int, weights: AdapterWeights | None) -> None:
        """Fill (or with None clear) an adapter slot >= 1; weights are taken as they are now."""
        self._adapters.pop(slot, None)
        if weights is not None:
            self._adapters[slot] = self._low_ranks(weights)
        self._table = (POINTER * (max(self._adapters, default=0) + 1))()
        for used, (array, _) in self._adapters.items():
            self._table[used - 1] = ctypes.addressof(array)

    def _low_ranks(self, weights: AdapterWeights) -> tuple[Any, list[Tensor]]:
        """C array [depth][4] of an adapter, and the tensors its pointers lead to."""
        rank, scale = weights.spec.rank, weights.spec.scale
        pairs: dict[tuple[nn.Module, str | None], tuple[Tensor, Tensor]] = {}
        for site in sites(self.model, weights.spec.targets):
            a, b = (weights.tensors[f"{site.name}.lora_{x}.weight"] for x in "AB")
            a, b = site.unpack(a.detach().float(), b.detach().float(), rank)
            pairs[site.module, site.parameter] = (a, b)
        array, kept = (_LowRank * (4 * self.depth))(), []

        def join(
            at: int, parts: Sequence[tuple[nn.Module, str | None, int, int]], gated: bool
        ) -> None:
            """One product's adapter: `parts` (module, parameter, inputs, outputs) side by side."""
            found = [pairs.get(part[:2]) for part in parts]
            experts = next((p[0].shape[0] for p in found if p and p[0].ndim == 3), 0)
            lead = (experts,) if experts else ()
            filled = [
                pair or (torch.zeros(*lead, rank, inputs), torch.zeros(*lead, outputs, rank))
                for pair, (_, _, inputs, outputs) in zip(found, parts, strict=True)
            ]
            a = torch.cat([a for a, _ in filled], dim=-2)
            b = torch.cat([b for _, b in filled], dim=-2)
            a, b = (t if experts else t[None] for t in (a, b))
            a = F.pad(a, (0, -a.shape[-1] % WIDTH))
            up = matrix(_interleave(b) if gated else b, pack)
            array[at] = _LowRank(matrix(a, pack_narrow), up, scale)

        def matrix(weight: Tensor, packer: Any) -> _Matrix:
            form = "bfloat16" if _lossless(weight) else "float32"
            packed, _ = packer(weight, form)
            kept.append(packed)
            inputs = weight.shape[-1]
            return _Matrix(
                packed.data_ptr(), format=FORMATS[form], inputs=inputs, blocks=packed.shape[1]
            )

        for index, layer in enumerate(self.model.model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            hidden = self.config.hidden_size
            linears = [attention.q_proj, attention.k_proj, attention.v_proj]
            join(4 * index, [(m, None, hidden, m.out_features) for m in linears], False)
            join(
                4 * index + 1,
                [(attention.o_proj, None, attention.o_proj.in_features, hidden)],
                False,
            )
            experts = getattr(mlp, "experts", None)
            if experts is not None:
                _, two, _ = experts.gate_up_proj.shape
                join(4 * index + 2, [(experts, "gate_up_proj", hidden, two)], True)
                join(4 * index + 3, [(experts, "down_proj", two // 2, hidden)], False)
            else:
                inner = mlp.gate_proj.out_features
                wide = [(m, None, hidden, inner) for m in (mlp.gate_proj, mlp.up_proj)]
                join(4 * index + 2, wide, True)
                join(4 * index + 3, [(mlp.down_proj, None, inner, hidden)], False)
        return array, kept

    # -- running -------------------------------------------------------------------------------

    def new_pages(self, slots: int) -> Pages:
        """An empty cache of `slots` token slots, a multiple of 16, for every layer."""
        size = -(-slots // WIDTH) * WIDTH * self.kv_heads * self.width
        item = self.kv_dtype.itemsize

        def empty() -> Tensor:
            # numpy asks the system for zeroed memory, which costs nothing until it is used.
            room = np.zeros(self.depth * size * item, np.uint8)
            return torch.from_numpy(room).view(self.kv_dtype).view(self.depth, size)

        return Pages(empty(), empty())

    def __call__(
        self,
        feed: Feed,
        table: np.ndarray,
        pages: Pages,
        *,
        draws: Draws | None = None,
        logits: Tensor | None = None,
        state: Tensor | None = None,
        layers: int = 0,
    ) -> Drawn | None:
        """One step, or with `draws.steps` up to that many.

        `table` [rows, reach] int64 is the cache slot of every position of every row. Filled where
        given: `logits` (see `empty_logits`) of the first step's kept tokens, or `state` [T, H], what
        every token is after `layers` layers, where the step then ends.
        """
        lib = native.library()
        assert lib is not None
        # Slot 0 is the base; the library counts adapters from zero.
        raw = (feed.tokens, feed.row, feed.position, feed.slot - 1, table, feed.keep)
        *arrays, table, keep = (np.ascontiguousarray(a, np.int64) for a in raw)
        pointers = POINTER * self.depth
        keys, values = (
            pointers(*range(t.data_ptr(), t.data_ptr() + t.nbytes, t.nbytes // self.depth))
            for t in (pages.key, pages.value)
        )
        step = _Step(
            len(feed.tokens),
            *(a.ctypes.data for a in arrays),
            ctypes.addressof(self._table),
            table.ctypes.data,
            table.shape[1],
            ctypes.addressof(keys),
            ctypes.addressof(values),
            len(keep),
            keep.ctypes.data,
            None if logits is None else logits.data_ptr(),
            None if state is None else state.data_ptr(),
            layers,
            torch.get_num_threads(),
        )
        run = functools.partial(lib.burnish_step, ctypes.byref(self._model), ctypes.byref(step))
        if draws is None:
            run(None)
            return None
        drawn = Drawn.empty(draws.steps, len(feed.keep))
        run(
            ctypes.byref(
                _Draws(
                    *(a.ctypes.data for a in draws[:-1]),
                    draws.steps,
                    *(a.ctypes.data for a in drawn),
                )
            )
        )
        return drawn

    def read(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], layers: int = 0
    ) -> Tensor:
        """Whole sequences through the base. Returns the logits [N, V] that predict tokens `start`.. of
        each, one sequence after the other; or, with `layers`, the state [N, H] of all tokens after
        so many layers."""
        parts = []
        for some in _by_size([len(s) for s in sequences], READ_TOKENS):
            counts = np.array([len(sequences[i]) for i in some], np.int64)
            reach = -(-int(counts.max()) // WIDTH) * WIDTH
            table = np.arange(len(some) * reach, dtype=np.int64).reshape(len(some), reach)
            ends = counts.cumsum()
            keep = [np.empty(0, np.int64)]
            if not layers:
                keep += [
                    np.arange(end - count + starts[i] - 1, end - 1)
                    for i, count, end in zip(some, counts, ends, strict=True)
                ]
            feed = Feed(
                tokens=np.concatenate([np.array(sequences[i], np.int64) for i in some]),
                rows=np.arange(len(some)),
                starts=np.zeros(len(some), np.int64),
                counts=counts,
                slots=np.zeros(len(some), np.int64),
                keep=np.concatenate(keep),
            )
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


def pack(weight: Tensor, form: str) -> tuple[Tensor, Tensor | None]:
    """weight [E, out, in] float32 as cpu/linear.h reads it, [E, blocks, ...], and its scales."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % BLOCK))
    blocks = weight.unflatten(1, (-1, BLOCK)).transpose(2, 3)  # [E, blocks, in, 32]
    if form == "float32":
        return blocks.contiguous(), None
    if form == "bfloat16":
        halves = blocks.to(torch.bfloat16).unflatten(3, (2, WIDTH))
        return halves.transpose(3, 4).contiguous(), None
    if form == "int8":
        scale = blocks.abs().amax(2, keepdim=True).clamp_min(1e-12) / 127
        return _by_fours((blocks / scale).round() + 128), scale.contiguous()
    grouped = blocks.unflatten(2, (-1, GROUP))  # [E, blocks, groups, GROUP, 32]
    scale = grouped.abs().amax(3, keepdim=True).clamp_min(1e-12) / 7
    fours = _by_fours(((grouped / scale).round() + 8).flatten(2, 3))
    return fours[..., :WIDTH, :] | fours[..., WIDTH:, :] << 4, scale.contiguous()


def pack_narrow(weight: Tensor, form: str) -> tuple[Tensor, None]:
    """An adapter's weight [E, rank, in] as cpu/linear.h reads it: [E, blocks, in, 16], in
    bfloat16 with two inputs to a word."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % WIDTH))
    blocks = weight.unflatten(1, (-1, WIDTH)).transpose(2, 3)  # [E, blocks, in, 16]
    if form == "bfloat16":
        blocks = blocks.to(torch.bfloat16).unflatten(2, (-1, 2)).transpose(3, 4)
    return blocks.contiguous(), None


def _by_fours(blocks: Tensor) -> Tensor:
    """[E, blocks, in, 32] -> bytes [E, blocks, in / 4, 32, 4]."""
    return blocks.to(torch.uint8).unflatten(2, (-1, 4)).transpose(3, 4).contiguous()


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


def _interleave(gate_up: Tensor) -> Tensor:
    """[..., 2 * inner, n], gates first -> by turns 16 gates and their 16 ups, filled up."""
    gate, up = (F.pad(t, (0, 0, 0, -t.shape[-2] % WIDTH)) for t in gate_up.chunk(2, dim=-2))
    both = torch.stack([t.unflatten(-2, (-1, WIDTH)) for t in (gate, up)], dim=-3)
    return both.flatten(-4, -2)


def _mlp_weights(mlp: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """gate_up [(E,) 2 * inner, H] gates first, down [(E,) H, inner], router [E, H] if any."""
    if not hasattr(mlp, "experts"):
        return torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), mlp.down_proj.weight, None
    experts = mlp.experts
    gate_up, down = experts.gate_up_proj.detach(), experts.down_proj.detach()
    if getattr(experts, "is_transposed", False):
        gate_up, down = gate_up.transpose(1, 2), down.transpose(1, 2)
    return gate_up, down, mlp.gate.weight


def _window(config: Any, attention: Any) -> int:
    """Positions a token sees, itself among them; 0: all."""
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return window or 0


def _lossless(weight: Tensor) -> bool:
    return torch.equal(weight, weight.to(torch.bfloat16).to(weight.dtype))


def _format(model: Any) -> str:
    """bfloat16 where that changes no weight, else float32."""
    if model.dtype == torch.bfloat16:
        return "bfloat16"
    return "bfloat16" if all(_lossless(p) for p in model.parameters() if p.ndim > 1) else "float32"
