"""Five small reward heads on the frozen base's hidden states: what people would think of an answer.

Each head is a two-layer network fitted to its own bootstrap resample, all five at once with batched
matrix products. Their mean is the guess, their spread says how far to trust it. Fitting takes about
a second at a few thousand judgements; more steps than these fit the noise. Left out: fine-tuning
the features, and calibration.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from burnish.learner.reward.base import Fit, auroc
from torch import Tensor
from torch.nn import functional as F

HEADS, WIDTH, DROPOUT = 5, 64, 0.3
NAMES = ("centre", "spread", "w1", "b1", "w2", "b2")


class RewardHeads:
    """P(a person likes this answer), as an ensemble over features of `size` numbers."""

    def __init__(self, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        scale = size**-0.5
        self.size = size
        self.centre = torch.zeros(size)
        self.spread = torch.ones(size)
        self.w1 = torch.randn(HEADS, size, WIDTH, generator=generator) * scale
        self.b1 = torch.zeros(HEADS, 1, WIDTH)
        self.w2 = torch.randn(HEADS, WIDTH, 1, generator=generator) * WIDTH**-0.5
        self.b2 = torch.zeros(HEADS, 1, 1)

    def state(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).detach() for name in NAMES}

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> RewardHeads:
        heads = cls(state["centre"].shape[0])
        for name in NAMES:
            setattr(heads, name, state[name].clone())
        return heads

    def fit(
        self,
        features: Tensor,
        targets: Tensor,
        weights: Tensor,
        *,
        steps: int = 60,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        batch: int = 256,
        generator: torch.Generator,
    ) -> Fit:
        """Fit to features [N, size], targets [N] in [0, 1] and weights [N], from where it stands.

        A tenth of the rows is held back to measure AUROC; which one is a matter of the generator.
        """
        count = features.shape[0]
        order = torch.randperm(count, generator=generator)
        held, kept = order[: count // 10], order[count // 10 :]
        self.centre = features.mean(0)
        self.spread = features.std(0, correction=0).clamp_min(1e-3)
        inputs = self._normalised(features)
        # Each head sees its own resample of the judgements, redrawn at every fit.
        resample = kept[torch.randint(len(kept), (HEADS, len(kept)), generator=generator)]
        parameters = [self.w1, self.b1, self.w2, self.b2]
        for tensor in parameters:
            tensor.requires_grad_(True)
        optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
        rows = torch.arange(HEADS)[:, None]
        size = min(batch, len(kept))
        for _ in range(steps):
            pick = torch.randint(len(kept), (HEADS, size), generator=generator)
            index = resample[rows, pick]
            logits = self._logits(inputs[index], generator)
            losses = F.binary_cross_entropy_with_logits(logits, targets[index], reduction="none")
            loss = (losses * weights[index]).sum() / weights[index].sum().clamp_min(1e-6)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        for tensor in parameters:
            tensor.requires_grad_(False)
        mean, _ = self.score(features[held])
        return Fit(count, auroc(mean, targets[held]))

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over the heads of P(liked), each [N]."""
        with torch.no_grad():
            inputs = self._normalised(features).expand(HEADS, -1, -1)
            likes = self._logits(inputs, None).sigmoid()
        return likes.mean(0), likes.std(0)

    def mean(self, features: Tensor) -> Tensor:
        return self.score(features)[0]

    def _normalised(self, features: Tensor) -> Tensor:
        return (features - self.centre) / self.spread

    def _logits(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """inputs [HEADS, B, size] -> [HEADS, B]; dropout only while fitting."""
        hidden = F.gelu(torch.baddbmm(self.b1, _dropped(inputs, generator), self.w1))
        return torch.baddbmm(self.b2, _dropped(hidden, generator), self.w2).squeeze(-1)


def _dropped(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return inputs
    keep = torch.rand(inputs.shape, generator=generator) >= DROPOUT
    return inputs * keep / (1 - DROPOUT)
