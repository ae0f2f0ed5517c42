"""Grouped experts on a GPU: two grouped products with the gate between them, without host syncs.

Rows are (token, expert) pairs in the router's order, so the results of a token are adjacent and need no
sorting back. The gate is the model's own (SwiGLU, gpt-oss's); biases and both layouts are the kernel's.
Weights may be kept as int8 or int4 beside the originals, which training needs. Left out: one kernel for
gate and products, and expert parallelism.
"""

from __future__ import annotations

from typing import Any

from burnish.kernels.cuda.grouped import GroupPlan, Matrices, grouped
from burnish.kernels.slots import ActiveSlots
from torch import Tensor


class GroupedExperts:
    """The experts of one layer, for steps."""

    def __init__(self, module: Any, form: str, active: ActiveSlots) -> None:
        self.module, self.active = module, active
        self.first = "gate_up_proj" if module.has_gate else "up_proj"
        self.matrices = {
            name: Matrices.of(getattr(module, name).detach(), module.is_transposed, form)
            for name in (self.first, "down_proj")
        }

    def __call__(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """hidden [T, H], experts `chosen` and their `weights` [T, k] -> [T, H]."""
        m, token_adapters = self.module, self.active.token_adapters
        tables = {} if token_adapters is None else getattr(m, "lora_tables", {})
        tokens, k = chosen.shape
        plan = GroupPlan.of(chosen.flatten(), m.num_experts)
        adapters = (
            token_adapters.by_pair(chosen, m.num_experts) if token_adapters and tables else None
        )

        def project(name: str, x: Tensor, share: int) -> Tensor:
            matrices, bias = self.matrices[name], None
            if m.has_bias:
                bias = getattr(m, f"{name}_bias")
            weight = getattr(m, name)
            width = weight.shape[2 if m.is_transposed else 1]
            out = grouped(x, x.new_empty(tokens * k, width), plan, matrices, share, bias)
            if adapters is not None and token_adapters is not None and name in tables:
                token_adapters.bank.add(tables[name], out, x, adapters, share)
            return out

        x = project(self.first, hidden, k)
        x = m._apply_gate(x) if m.has_gate else m.act_fn(x)
        x = project("down_proj", x.contiguous(), 1)
        if m.has_post_expert_norm:
            x = m.post_expert_norm(x)
        x = x.view(tokens, k, -1) * weights[..., None].to(x.dtype)
        return x.sum(1).to(hidden.dtype)
