"""The Muon optimizer for matrices and stacks of matrices (one per expert).

Every matrix is updated by its orthogonalised momentum (Jordan et al. 2024, quintic Newton-Schulz),
scaled to the RMS of an Adam step (Liu et al. 2025, "Muon is scalable"), so that both share one
learning rate. torch.optim.Muon takes 2-D weights only.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import torch
from torch import Tensor


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Approximately the nearest orthogonal matrices to `matrices` [..., rows, columns]."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 2e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        pool: Executor | None = None,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.pool = pool

    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update; weights are distributed over the threads of the pool."""
        work = [(w, group) for group in self.param_groups for w in group["params"]]
        work = [(w, group) for w, group in work if w.grad is not None]
        list(self.pool.map(self._update, work) if self.pool else map(self._update, work))

    @torch.no_grad()
    def _update(self, work: tuple[Tensor, dict[str, Any]]) -> None:
        weight, group = work
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
        update = orthogonalise(weight.grad.lerp(average, group["momentum"]))
        size = 0.2 * max(weight.shape[-2:]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-group["lr"] * size)
