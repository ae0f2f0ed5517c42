"""What crosses the border to the native library: its structs, and how weights are packed for it.

The structs mirror cpu/native/model.h, cpu/native/weights.h and cpu/native/adapters.h, which describe the layouts. Tensors
that a struct points into are kept alive by whoever holds the struct.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from burnish.kernels.cpu.allocation import on_large_pages
from burnish.kernels.cpu.latent import LatentAttention
from burnish.kernels.lora import AdapterError, AdapterWeights, sites
from torch import Tensor, nn

Weights = Literal["auto", "float32", "bfloat16", "int8", "int4"]
FORMATS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
WIDTH, BLOCK, GROUP = 16, 32, 32  # floats per vector, outputs per block, inputs per int4 scale

POINTER, SIZE, FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class CMatrix(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("weight", "scale", "bias", "part")),
        *((name, SIZE) for name in ("format", "inputs", "blocks")),
    ]


class CLowRank(ctypes.Structure):
    _fields_ = [("down", CMatrix), ("up", CMatrix), ("scale", FLOAT)]


class CLayer(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("norm1", "norm2", "q_norm", "k_norm")),
        *((name, CMatrix) for name in ("qkv", "out", "router", "gate_up", "down")),
        *((name, CMatrix) for name in ("query", "key", "value")),
        ("experts", SIZE),
        ("window", SIZE),
        ("sinks", POINTER),
        ("choice", POINTER),
    ]


class CModel(ctypes.Structure):
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
        *((name, SIZE) for name in ("norm_heads", "normalise", "sigmoid", "groups")),
        *((name, SIZE) for name in ("groups_kept", "shared", "kv_bf16", "latent")),
        *((name, FLOAT) for name in ("latent_eps", "eps", "scale", "clip")),
        *((name, FLOAT) for name in ("routed", "alpha", "limit")),
        *((name, POINTER) for name in ("embedding_bf16", "embedding", "final_norm")),
        ("head", CMatrix),
        ("cosines", POINTER),
        ("sines", POINTER),
    ]


class CStep(ctypes.Structure):
    _fields_ = [
        ("tokens", SIZE),
        *((name, POINTER) for name in ("token", "row", "position", "slot", "adapters", "table")),
        ("reach", SIZE),
        ("keys", POINTER),
        ("values", POINTER),
        ("kept", SIZE),
        *((name, POINTER) for name in ("keep", "logits", "state")),
        ("layers", SIZE),
        ("states", POINTER),
        ("threads", SIZE),
    ]


class CSamplingMetadata(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("how", "skip", "count", "room", "ends", "endless")),
        ("steps", SIZE),
        *((name, POINTER) for name in ("token", "raw", "processed", "made")),
    ]


class CGradient(ctypes.Structure):
    _fields_ = [("down", POINTER), ("up", POINTER)]


class CBackward(ctypes.Structure):
    _fields_ = [
        ("turned", POINTER),
        ("head", CMatrix),
        ("sequences", SIZE),
        *((name, POINTER) for name in ("starts", "logits", "gradients")),
    ]


class Packer:
    """Makes the library's structs, and keeps the tensors that they point into."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def keep(self, tensor: Tensor | None) -> int | None:
        """Address of a contiguous tensor; None stays None."""
        if tensor is None:
            return None
        self._kept.append(tensor)
        return tensor.data_ptr()

    def floats(self, tensor: Tensor | None) -> int | None:
        """Address of a float32 copy."""
        return self.keep(None if tensor is None else tensor.detach().float().contiguous())

    def matrix(
        self,
        weight: Tensor | None,
        form: str,
        bias: Tensor | None = None,
        parts: Sequence[int] | None = None,
    ) -> CMatrix:
        """Pack weight [(E,) out, in]; outputs are filled up with zeros to whole blocks."""
        if weight is None:
            return CMatrix()
        weight = weight.detach().float()
        if form == "int4" and weight.shape[-1] % GROUP:
            form = "int8"  # a matrix of a size that int4 does not group
        packed, scale = pack(weight if weight.ndim == 3 else weight[None], form)
        if bias is not None:
            bias = F.pad(bias.detach().float(), (0, -bias.shape[-1] % BLOCK))
        blocks = -(-weight.shape[-2] // BLOCK)
        halves = [0] * 2 * blocks if parts is None else parts
        return CMatrix(
            self.keep(on_large_pages(packed)),
            self.keep(scale),
            self.floats(bias),
            self.keep(torch.tensor(halves, dtype=torch.int32)),
            FORMATS[form],
            weight.shape[-1],
            blocks,
        )

    def low_rank(self, down: Tensor, up: Tensor, scale: float, narrow: bool = False) -> CLowRank:
        """One product's adapter: down [E, ranks, in], up [E, out, rank]. In bfloat16 if `narrow`, or
        where that loses nothing."""
        form = "bfloat16" if narrow or (lossless(down) and lossless(up)) else "float32"
        return CLowRank(self._narrow(down, form), self.matrix(up, form), scale)

    def _narrow(self, weight: Tensor, form: str) -> CMatrix:
        packed = pack_narrow(weight.detach().float(), form)
        return CMatrix(
            self.keep(packed), format=FORMATS[form], inputs=weight.shape[-1], blocks=packed.shape[1]
        )


@dataclass(frozen=True)
class LayerWeights:
    """A decoder layer's matrices [(E,) out, in] as they are packed, joined where they read the same.

    `gate_up` is by turns 16 gates and their 16 ups, the inputs of `down` are filled up to sixteens.
    `query`, `key` and `value` are MLA's, see latent.py. `parts` tells for each 16 outputs of qkv, out,
    gate_up and down, and of these three, which of the joined matrices they belong to, as far as
    adapters tell them apart.
    """

    qkv: Tensor
    out: Tensor
    router: Tensor | None
    gate_up: Tensor
    down: Tensor
    qkv_bias: Tensor | None
    out_bias: Tensor | None
    router_bias: Tensor | None
    gate_up_bias: Tensor | None
    down_bias: Tensor | None
    query: Tensor | None
    key: Tensor | None
    value: Tensor | None
    parts: list[list[int]]

    @classmethod
    def of(cls, layer: Any) -> LayerWeights:
        attention, mlp = layer.self_attn, layer.mlp
        latent = LatentAttention.of(attention)
        own = (latent.query, latent.key, latent.value) if latent else ()
        projections, rows = _entering(attention)
        biases = [p.bias for p in projections]
        experts, router = getattr(mlp, "experts", None), router_of(mlp)
        if experts is None:
            gate_up, down = (
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                mlp.down_proj.weight,
            )
        else:
            gate_up, down = experts.gate_up_proj.detach(), experts.down_proj.detach()
            if getattr(experts, "is_transposed", False):
                gate_up, down = gate_up.transpose(1, 2), down.transpose(1, 2)
            gate_up, down = _with_shared(mlp, _gates_first(experts, gate_up), down)
        gate_up_bias = getattr(experts, "gate_up_proj_bias", None)
        if gate_up_bias is not None:
            gate_up_bias = interleave(_gates_first(experts, gate_up_bias[..., None]))[..., 0]
        gate_up, down = interleave(gate_up), F.pad(down, (0, -(gate_up.shape[-2] // 2) % WIDTH))
        return cls(
            torch.cat([p.weight for p in projections])[rows],
            attention.o_proj.weight,
            getattr(router, "weight", None),
            gate_up,
            down,
            torch.cat(biases)[rows] if biases[0] is not None else None,
            attention.o_proj.bias,
            getattr(router, "bias", None),
            gate_up_bias,
            getattr(experts, "down_proj_bias", None),
            *(own or (None, None, None)),
            [
                _halves([p.out_features for p in projections]),
                _halves([attention.o_proj.out_features]),
                [0, 0 if experts is not None else 1] * (gate_up.shape[-2] // BLOCK),
                _halves([down.shape[-2]]),
                *(_halves([matrix.shape[-2]]) for matrix in own),
            ],
        )


def _entering(attention: Any) -> tuple[Sequence[Any], Tensor | slice]:
    """An attention's projections that are joined, and the order of their rows."""
    if latent := LatentAttention.of(attention):
        return latent.entering, latent.entering_rows
    return (attention.q_proj, attention.k_proj, attention.v_proj), slice(None)


def router_of(mlp: Any) -> Any:
    """The module that chooses the experts of an MLP; None: there are none."""
    if not hasattr(mlp, "experts"):
        return None
    return mlp.router if hasattr(mlp, "router") else mlp.gate


def shared_pieces(mlp: Any) -> int:
    """How many experts' size the shared experts of an MLP have."""
    shared = getattr(mlp, "shared_experts", None)
    return (
        shared.gate_proj.out_features // mlp.experts.intermediate_dim if shared is not None else 0
    )


def _with_shared(mlp: Any, gate_up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Shared experts become experts behind the others, each as large as those."""
    pieces = shared_pieces(mlp)
    if not pieces:
        return gate_up, down
    shared = mlp.shared_experts
    gate, up = (p.weight.unflatten(0, (pieces, -1)) for p in (shared.gate_proj, shared.up_proj))
    more = shared.down_proj.weight.unflatten(1, (pieces, -1)).transpose(0, 1)
    return torch.cat([gate_up, torch.cat([gate, up], dim=1)]), torch.cat([down, more])


def _gates_first(experts: Any, gate_up: Tensor) -> Tensor:
    """[E, 2 * inner, n], gates and ups by turns in some families -> all gates, then all ups."""
    if getattr(experts, "is_concatenated", True):
        return gate_up
    return torch.cat([gate_up[:, ::2], gate_up[:, 1::2]], dim=1)


def joined_adapters(model: Any, weights: AdapterWeights) -> list[tuple[Tensor, Tensor]]:
    """For qkv, out, gate_up and down of every layer, and MLA's query, key and value: down
    [E, parts * rank, in] and up [E, out, rank], laid out as in `LayerWeights`. Differentiable; what
    an adapter leaves alone is zero."""
    rank = weights.spec.rank
    pairs: dict[tuple[nn.Module, str | None], tuple[Tensor, Tensor]] = {}
    for site in sites(model, weights.spec.targets):
        if ".shared_experts." in site.name:
            raise AdapterError(f"{site.name}: adapters of shared experts are not supported")
        a, b = (weights.tensors[f"{site.name}.lora_{x}.weight"].float() for x in "AB")
        a, b = site.unpack(a, b, rank)
        pairs[site.module, site.parameter] = (a, b) if a.ndim == 3 else (a[None], b[None])

    def pair_of(
        module: nn.Module, name: str | None, experts: int, inputs: int, outputs: int
    ) -> Any:
        zeros = (torch.zeros(experts, rank, inputs), torch.zeros(experts, outputs, rank))
        return pairs.get((module, name), zeros)

    def side_by_side(*linears: nn.Linear) -> tuple[Tensor, Tensor]:
        found = [pair_of(m, None, 1, m.in_features, m.out_features) for m in linears]
        return torch.cat([a for a, _ in found], dim=1), torch.cat([b for _, b in found], dim=1)

    adapters = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        experts = getattr(mlp, "experts", None)
        if experts is None:
            gate_up = side_by_side(mlp.gate_proj, mlp.up_proj)
            down = side_by_side(mlp.down_proj)
        else:
            inner, hidden = experts.down_proj.shape[1:]
            if not getattr(experts, "is_transposed", False):
                inner, hidden = hidden, inner
            count, more = experts.num_experts, (0, 0, 0, 0, 0, shared_pieces(mlp))
            a, b = pair_of(experts, "gate_up_proj", count, hidden, 2 * inner)
            gate_up = F.pad(a, more), F.pad(_gates_first(experts, b), more)
            a, b = pair_of(experts, "down_proj", count, inner, hidden)
            down = F.pad(a, more), F.pad(b, more)
        projections, rows = _entering(attention)
        qkv = side_by_side(*projections)
        adapters += [
            (qkv[0], qkv[1][:, rows]),
            side_by_side(attention.o_proj),
            (gate_up[0], interleave(gate_up[1])),
            (F.pad(down[0], (0, -down[0].shape[-1] % WIDTH)), down[1]),
        ]
        if latent := LatentAttention.of(attention):
            adapters += latent.adapters(side_by_side)
    return adapters


def pack(weight: Tensor, form: str) -> tuple[Tensor, Tensor | None]:
    """weight [E, out, in] float32 as cpu/native/weights.h has it, [E, blocks, ...], and its scales."""
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


def pack_narrow(weight: Tensor, form: str) -> Tensor:
    """An adapter's weight [E, rank, in] as cpu/native/adapters.h has it: [E, blocks, in, 16], in
    bfloat16 with two inputs to a word."""
    weight = F.pad(weight, (0, 0, 0, -weight.shape[1] % WIDTH))
    blocks = weight.unflatten(1, (-1, WIDTH)).transpose(2, 3)  # [E, blocks, in, 16]
    if form == "bfloat16":
        blocks = blocks.to(torch.bfloat16).unflatten(2, (-1, 2)).transpose(3, 4)
    return blocks.contiguous()


def _by_fours(blocks: Tensor) -> Tensor:
    """[E, blocks, in, 32] -> bytes [E, blocks, in / 4, 32, 4]."""
    return blocks.to(torch.uint8).unflatten(2, (-1, 4)).transpose(3, 4).contiguous()


def interleave(gate_up: Tensor) -> Tensor:
    """[..., 2 * inner, n], gates first -> by turns 16 gates and their 16 ups, filled up."""
    gate, up = (F.pad(t, (0, 0, 0, -t.shape[-2] % WIDTH)) for t in gate_up.chunk(2, dim=-2))
    both = torch.stack([t.unflatten(-2, (-1, WIDTH)) for t in (gate, up)], dim=-3)
    return both.flatten(-4, -2)


def window(config: Any, attention: Any) -> int:
    """Positions a token sees, itself among them; 0: all."""
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return window or 0


def _halves(sizes: Sequence[int]) -> list[int]:
    """Which of several matrices joined along their outputs each 16 outputs belong to."""
    halves = [i for i, size in enumerate(sizes) for _ in range(-(-size // WIDTH))]
    return halves + [len(sizes) - 1] * (len(halves) % 2)


def lossless(weight: Tensor) -> bool:
    return torch.equal(weight, weight.to(torch.bfloat16).to(weight.dtype))


def format_of(model: Any) -> str:
    """bfloat16 where that changes no weight, else float32."""
    if model.dtype == torch.bfloat16:
        return "bfloat16"
    return "bfloat16" if all(lossless(p) for p in model.parameters() if p.ndim > 1) else "float32"
