"""A bootstrap ensemble of five two-layer networks on the frozen base's hidden states.

Each network is fitted to its own bootstrap resample, all five at once with batched matrix products.
Their mean is the prediction, their standard deviation the uncertainty. Fitting takes about a second
at a few thousand judgements; more steps than these fit the noise. Left out: fine-tuning the
features, and calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from burnish.learner.reward.base import FitReport, auroc
from torch import Tensor
from torch.nn import functional as F

MEMBERS, WIDTH, DROPOUT = 5, 64, 0.3
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 60, 256, 3e-3, 1e-2
STATE = ("centre", "spread", "w1", "b1", "w2", "b2")


class RewardEnsemble:
    """P(a person likes this answer), over features of `size` numbers."""

    def __init__(self, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        scale = size**-0.5
        self.size = size
        self.centre = torch.zeros(size)
        self.spread = torch.ones(size)
        self.w1 = torch.randn(MEMBERS, size, WIDTH, generator=generator) * scale
        self.b1 = torch.zeros(MEMBERS, 1, WIDTH)
        self.w2 = torch.randn(MEMBERS, WIDTH, 1, generator=generator) * WIDTH**-0.5
        self.b2 = torch.zeros(MEMBERS, 1, 1)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).detach() for name in STATE}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> RewardEnsemble:
        ensemble = cls(state["centre"].shape[0])
        for name in STATE:
            setattr(ensemble, name, state[name].clone())
        return ensemble

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> FitReport:
        """Fit to features [N, size], targets [N] in [0, 1] and weights [N], from the present weights.

        A tenth of the rows, chosen by `generator`, is held out to measure AUROC.
        """
        count = features.shape[0]
        order = torch.randperm(count, generator=generator)
        held_out, kept = order[: count // 10], order[count // 10 :]
        self.centre = features.mean(0)
        self.spread = features.std(0, correction=0).clamp_min(1e-3)
        inputs = self._standardised(features)
        # Each member sees its own resample of the judgements, redrawn at every fit.
        resample = kept[torch.randint(len(kept), (MEMBERS, len(kept)), generator=generator)]
        parameters = [self.w1, self.b1, self.w2, self.b2]
        for tensor in parameters:
            tensor.requires_grad_(True)
        optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        rows = torch.arange(MEMBERS)[:, None]
        size = min(BATCH, len(kept))
        for _ in range(STEPS):
            pick = torch.randint(len(kept), (MEMBERS, size), generator=generator)
            index = resample[rows, pick]
            logits = self._logits(inputs[index], generator)
            losses = F.binary_cross_entropy_with_logits(logits, targets[index], reduction="none")
            loss = (losses * weights[index]).sum() / weights[index].sum().clamp_min(1e-6)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for tensor in parameters:
            tensor.requires_grad_(False)
        mean, _ = self.score(features[held_out])
        return FitReport(count, auroc(mean, targets[held_out]))

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of P(liked) over the members, each [N]."""
        with torch.no_grad():
            inputs = self._standardised(features).expand(MEMBERS, -1, -1)
            liked = self._logits(inputs, None).sigmoid()
        return liked.mean(0), liked.std(0)

    def mean(self, features: Tensor) -> Tensor:
        return self.score(features)[0]

    def _standardised(self, features: Tensor) -> Tensor:
        return (features - self.centre) / self.spread

    def _logits(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """inputs [MEMBERS, B, size] -> [MEMBERS, B]; dropout only while fitting."""
        hidden = F.gelu(torch.baddbmm(self.b1, _dropout(inputs, generator), self.w1))
        return torch.baddbmm(self.b2, _dropout(hidden, generator), self.w2).squeeze(-1)


def _dropout(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return inputs
    keep = torch.rand(inputs.shape, generator=generator) >= DROPOUT
    return inputs * keep / (1 - DROPOUT)
