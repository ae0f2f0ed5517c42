"""The matrices of a decoder layer as the native library takes them, and an adapter's pair for each.

Matrices with the same input are joined. How families name and lay out theirs is known here and in
latent.py alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from burnish.kernels.cpu.latent import LatentAttention
from burnish.kernels.cpu.packing import BLOCK
from burnish.kernels.cpu.target import WIDTH
from burnish.kernels.lora import AdapterError, AdapterWeights, lora_targets
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerWeights:
    """A decoder layer's matrices [(E,) out, in] before packing; those with the same input are joined.

    `gate_up` alternates WIDTH gates and their WIDTH ups; the inputs of `down` are padded to a multiple
    of it.
    `query`, `key` and `value` are MLA's, see latent.py. `parts` has a list for qkv, out, gate_up, down
    and these three: the index of the joined adapter that each WIDTH outputs belong to.
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
        projections, rows = _input_projections(attention)
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


def _input_projections(attention: Any) -> tuple[Sequence[Any], Tensor | slice]:
    """The attention projections that are joined to qkv, and the order of their rows."""
    if latent := LatentAttention.of(attention):
        return latent.down_projections, latent.down_projection_rows
    return (attention.q_proj, attention.k_proj, attention.v_proj), slice(None)


def router_of(mlp: Any) -> Any:
    """The router of an MLP; None if it is dense."""
    if not hasattr(mlp, "experts"):
        return None
    return mlp.router if hasattr(mlp, "router") else mlp.gate


def shared_pieces(mlp: Any) -> int:
    """Size of an MLP's shared experts, in routed experts."""
    shared = getattr(mlp, "shared_experts", None)
    return (
        shared.gate_proj.out_features // mlp.experts.intermediate_dim if shared is not None else 0
    )


def _with_shared(mlp: Any, gate_up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Appends the shared experts to the routed ones, in pieces of the same size."""
    pieces = shared_pieces(mlp)
    if not pieces:
        return gate_up, down
    shared = mlp.shared_experts
    gate, up = (p.weight.unflatten(0, (pieces, -1)) for p in (shared.gate_proj, shared.up_proj))
    shared_down = shared.down_proj.weight.unflatten(1, (pieces, -1)).transpose(0, 1)
    return torch.cat([gate_up, torch.cat([gate, up], dim=1)]), torch.cat([down, shared_down])


def _gates_first(experts: Any, gate_up: Tensor) -> Tensor:
    """[E, 2 * inner, n], interleaved in some families -> all gates, then all ups."""
    if getattr(experts, "is_concatenated", True):
        return gate_up
    return torch.cat([gate_up[:, ::2], gate_up[:, 1::2]], dim=1)


def joined_adapters(model: Any, weights: AdapterWeights) -> list[tuple[Tensor, Tensor]]:
    """Down [E, parts * rank, in] and up [E, out, rank] for qkv, out, gate_up and down of every layer,
    and for MLA's query, key and value, laid out as in `LayerWeights`. Differentiable; zero where the
    adapter has no target. AdapterError if it adapts shared experts."""
    rank = weights.spec.rank
    pairs: dict[tuple[nn.Module, str | None], tuple[Tensor, Tensor]] = {}
    for target in lora_targets(model, weights.spec.targets):
        if ".shared_experts." in target.name:
            raise AdapterError(f"{target.name}: adapters of shared experts are not supported")
        a, b = (weights.tensors[f"{target.name}.lora_{x}.weight"].float() for x in "AB")
        a, b = target.unpack(a, b, rank)
        pairs[target.module, target.parameter] = (a, b) if a.ndim == 3 else (a[None], b[None])

    def pair_of(
        module: nn.Module, name: str | None, experts: int, inputs: int, outputs: int
    ) -> Any:
        zeros = (torch.zeros(experts, rank, inputs), torch.zeros(experts, outputs, rank))
        return pairs.get((module, name), zeros)

    def join(*linears: nn.Linear) -> tuple[Tensor, Tensor]:
        found = [pair_of(m, None, 1, m.in_features, m.out_features) for m in linears]
        return torch.cat([a for a, _ in found], dim=1), torch.cat([b for _, b in found], dim=1)

    adapters = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        experts = getattr(mlp, "experts", None)
        if experts is None:
            gate_up = join(mlp.gate_proj, mlp.up_proj)
            down = join(mlp.down_proj)
        else:
            inner, hidden = experts.down_proj.shape[1:]
            if not getattr(experts, "is_transposed", False):
                inner, hidden = hidden, inner
            count, padding = experts.num_experts, (0, 0, 0, 0, 0, shared_pieces(mlp))
            a, b = pair_of(experts, "gate_up_proj", count, hidden, 2 * inner)
            gate_up = F.pad(a, padding), F.pad(_gates_first(experts, b), padding)
            a, b = pair_of(experts, "down_proj", count, inner, hidden)
            down = F.pad(a, padding), F.pad(b, padding)
        projections, rows = _input_projections(attention)
        qkv = join(*projections)
        adapters += [
            (qkv[0], qkv[1][:, rows]),
            join(attention.o_proj),
            (gate_up[0], interleave(gate_up[1])),
            (F.pad(down[0], (0, -down[0].shape[-1] % WIDTH)), down[1]),
        ]
        if latent := LatentAttention.of(attention):
            adapters += latent.adapters(join)
    return adapters


def interleave(gate_up: Tensor) -> Tensor:
    """[..., 2 * inner, n], gates first -> alternating WIDTH gates and their WIDTH ups, padded."""
    gate, up = (F.pad(t, (0, 0, 0, -t.shape[-2] % WIDTH)) for t in gate_up.chunk(2, dim=-2))
    both = torch.stack([t.unflatten(-2, (-1, WIDTH)) for t in (gate, up)], dim=-3)
    return both.flatten(-4, -2)


def _halves(sizes: Sequence[int]) -> list[int]:
    """For each WIDTH outputs, which of several joined matrices of these sizes they belong to."""
    halves = [i for i, size in enumerate(sizes) for _ in range(-(-size // WIDTH))]
    return halves + [len(sizes) - 1] * (len(halves) % 2)
