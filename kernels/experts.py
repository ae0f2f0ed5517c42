"""Grouped experts with a LoRA slot per token: the PyTorch reference.

Registered in transformers' ExpertsInterface as "burnish_experts". Tokens are sorted by expert, one
matrix product per expert and projection runs over its tokens, and the weighted results are summed
per token. Covers the layouts transformers declares: [E, out, in] or [E, in, out], biases, gated or not.
Steps on a GPU take cuda/experts.py instead. Left out: expert parallelism and quantised weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from burnish.kernels.slots import SlotTable

if TYPE_CHECKING:
    from burnish.kernels.cuda.experts import GroupedExperts

NAME = "burnish_experts"


def has_experts(config: Any) -> bool:
    """Whether a model of this config is a mixture of experts."""
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return any(getattr(config, name, None) for name in names)


def grouped_linear(
    tokens: torch.Tensor,
    weight: torch.Tensor,
    counts: list[int],
    lora: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None,
) -> torch.Tensor:
    """tokens [N, in], sorted by expert, times weight [E, in, out] -> [N, out].

    `counts` is tokens per expert. `lora` is A [E, in, R], B [E, R, out] and the scale of every
    token for every rank column [N, R] (None: folded into B).
    """
    parts = []
    start = 0
    for expert, count in enumerate(counts):
        if count == 0:
            continue
        rows = tokens[start : start + count]
        out = rows @ weight[expert]
        if lora is not None:
            a, b, scales = lora
            low = rows @ a[expert]
            if scales is not None:
                low = low * scales[start : start + count]
            out = torch.addmm(out, low, b[expert])
        parts.append(out)
        start += count
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def experts_forward(
    module: torch.nn.Module,
    hidden: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    """The function for ExpertsInterface: hidden [T, H], routing [T, k] -> [T, H]."""
    m: torch.nn.Module = module
    fast: GroupedExperts | None = getattr(m, "grouped", None)
    if fast is not None and fast.active.on_cuda:
        return fast(hidden, top_k_index, top_k_weights)
    tokens, k = top_k_index.shape
    chosen = top_k_index.reshape(-1)
    order = chosen.argsort(stable=True)  # [T*k], pairs sorted by expert
    counts = torch.bincount(chosen, minlength=m.num_experts).tolist()  # type: ignore[call-overload]
    source = order // k
    tables: dict[str, SlotTable] = getattr(m, "lora_tables", {})

    def project(name: str, x: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = getattr(m, name)
        if not m.is_transposed:
            weight = weight.transpose(1, 2)
        table = tables.get(name)
        lora = table.grouped(source, x) if table is not None else None
        out = grouped_linear(x, weight, counts, lora)
        return out + getattr(m, f"{name}_bias")[chosen[order]] if m.has_bias else out

    x = hidden.index_select(0, source)
    if m.has_gate:
        x = m._apply_gate(project("gate_up_proj", x))  # type: ignore[operator]
    else:
        x = m.act_fn(project("up_proj", x))  # type: ignore[operator]
    x = project("down_proj", x)
    if m.has_post_expert_norm:
        x = m.post_expert_norm(x)  # type: ignore[operator]
    x = x * top_k_weights.reshape(-1, 1)[order].to(x.dtype)
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    return x.index_select(0, back).view(tokens, k, -1).sum(1).to(hidden.dtype)


def register() -> None:
    """Make "burnish_experts" known to transformers; harmless to repeat."""
    from transformers.integrations.moe import ExpertsInterface  # see attention.py

    ExpertsInterface.register(NAME, experts_forward)
