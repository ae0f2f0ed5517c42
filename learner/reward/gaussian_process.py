"""A Gaussian process over the frozen base's hidden states: the default reward model.

Two answers are alike when their prompts are alike and the answers are: the kernel is the product of
a prompt kernel and an answer kernel, plus a small share of each alone. The posterior mean is the
prediction; the posterior deviation grows where nobody has judged yet. A judgement of half the weight
has twice the noise. Inference is exact: about two seconds at the 6,144 judgements it is meant for
(Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1).

Left out: fine-tuning the features, and fitting the hyperparameters below, which were chosen with one
vote in five wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from burnish.learner.reward.base import FitReport, auroc
from torch import Tensor

PROMPT_SCALE = 0.8  # of the cosine distance between prompts, in the kernel's exponent
NEIGHBOUR_SCALE = 0.15  # the same, for the prompts whose answers set the answers' length scale
ALONE = 0.05  # weight of each kernel by itself, beside their product
NOISE = 6.0  # variance of a vote, in units of the prior's
HELD_OUT, EVALUATED = 0.1, 2048  # share held out to measure a fit, of at most so many rows
STATE = ("features", "prior", "weights")


class RewardGaussianProcess:
    """P(a person likes this answer), from features [N, 3H]: prompt mean, answer mean, last token."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size  # of the features; nothing here is random, so the seed is not used
        self._state: dict[str, Tensor] = {}
        self._coordinates: _Coordinates | None = None
        self._cholesky: Tensor | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """What `load` needs to predict the same means (but not how sure they are)."""
        return self._state

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> RewardGaussianProcess:
        model = cls(state["features"].shape[1])
        model._state = {name: state[name] for name in STATE}
        model._coordinates = _Coordinates(state["features"].float())
        return model

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> FitReport:
        """Fit to targets [N] in [0, 1] with weights [N]. A smaller fit measures AUROC: on a tenth of
        the rows (or of EVALUATED of them), from the rest."""
        order = torch.randperm(len(targets), generator=generator)[:EVALUATED]
        held_out, kept = order.tensor_split([int(HELD_OUT * len(order))])
        quality = 0.5
        if len(held_out) and len(kept):
            self._fit(features[kept], targets[kept], weights[kept])
            quality = auroc(self.mean(features[held_out]), targets[held_out])
        self._fit(features, targets, weights)
        return FitReport(len(targets), quality)

    def mean(self, features: Tensor) -> Tensor:
        """The posterior mean of P(liked), [N]."""
        return self._state["prior"] + self._kernel(features) @ self._state["weights"]

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of P(liked), each [N]. Needs a fit, not only a load."""
        assert self._cholesky is not None, "fit comes first"
        kernel = self._kernel(features)
        solved = torch.linalg.solve_triangular(self._cholesky, kernel.T, upper=False)
        variance = (1 + 2 * ALONE - solved.square().sum(0)).clamp_min(0)
        mean = self._state["prior"] + kernel @ self._state["weights"]
        # A vote's own variance is at most 1/4, which makes the prior's 1/4 over NOISE.
        return mean, (variance / (4 * NOISE)).sqrt()

    def _fit(self, features: Tensor, targets: Tensor, weights: Tensor) -> None:
        features = features.half()  # as they are saved: the same predictions before and after
        self._coordinates = _Coordinates(features.float())
        noise = NOISE / weights.clamp_min(1e-3)
        cholesky = torch.linalg.cholesky(self._kernel(features.float()) + noise.diag())
        prior = (targets * weights).sum() / weights.sum().clamp_min(1e-6)
        solved = torch.cholesky_solve((targets - prior)[:, None], cholesky)
        self._state = {"features": features, "prior": prior, "weights": solved.squeeze(1)}
        self._cholesky = cholesky

    def _kernel(self, features: Tensor) -> Tensor:
        """Kernel [N, M] between features [N, 3H] and the M rows of the fit."""
        assert self._coordinates is not None, "fit or load comes first"
        prompts, answers = self._coordinates(features)
        prompt = _cosine_kernel(prompts, self._coordinates.prompts, PROMPT_SCALE)
        answer = (-torch.cdist(answers, self._coordinates.answers).square() / 2).exp()
        return prompt * answer + ALONE * (prompt + answer)


class _Coordinates:
    """Features as points: prompts [N, H] on the unit sphere, and answers [N, 2H] divided by the
    typical distance between answers to one kind of prompt."""

    def __init__(self, features: Tensor) -> None:
        prompt, answer = self._split(features)
        self._centre, self._spread = prompt.mean(0), prompt.std(0, correction=0).clamp_min(1e-3)
        self.prompts = self._on_sphere(prompt)
        near = _cosine_kernel(self.prompts, self.prompts, NEIGHBOUR_SCALE).fill_diagonal_(0)
        usual = near @ answer / near.sum(1, keepdim=True).clamp_min(1e-30)
        self._scale = (answer - usual).square().sum(1).mean().sqrt().clamp_min(1e-3)
        self.answers = answer / self._scale

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        prompt, answer = self._split(features)
        return self._on_sphere(prompt), answer / self._scale

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        size = features.shape[1] // 3
        return features[:, :size], features[:, size:]

    def _on_sphere(self, prompt: Tensor) -> Tensor:
        rows = (prompt - self._centre) / self._spread
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)


def _cosine_kernel(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """exp(-(1 - cosine) / scale) between unit vectors a [N, H] and b [M, H], [N, M]."""
    return ((a @ b.T - 1) / scale).exp()
