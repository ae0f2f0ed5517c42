"""What people would think of an answer: a Gaussian process on the frozen base's hidden states.

Two answers are alike when their prompts are alike and what was said is alike; a product of two
kernels says just that, and adds a little of each alone. The posterior mean is the guess, the
posterior deviation says how far to trust it: it grows where nobody has judged yet. A judgement of
half the weight is one of twice the noise. Exact inference: about two seconds at the 6,144 judgements it is meant for.

Left out: fine-tuning the features, and fitting the numbers below, which were chosen with one vote
in five wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from burnish.learner.reward.base import Fit, auroc
from torch import Tensor

PROMPT_SCALE = 0.8  # of the cosine distance, in the exponent
ALIKE_SCALE = 0.15  # the same, for prompts whose answers set the scale of answers
ALONE = 0.05  # of each kernel by itself, beside their product
NOISE = 6.0  # variance of a vote, in units of the prior's
HELD_OUT, TRIED = 0.1, 2048


class RewardProcess:
    """P(a person likes this answer), from features [N, 3H]: prompt mean, answer mean, last token."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size  # of the features; nothing here is random, so the seed is not used
        self._state: dict[str, Tensor] = {}
        self._view: _View | None = None
        self._cholesky: Tensor | None = None

    def state(self) -> dict[str, Tensor]:
        """What `load` needs to give the same guesses (but not how sure they are)."""
        return self._state

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> RewardProcess:
        model = cls(state["features"].shape[1])
        model._state = dict(state)
        model._view = _View(state["features"].float())
        return model

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> Fit:
        """Fit to targets [N] in [0, 1] with weights [N]. How good that is, a smaller fit tells: on a
        tenth of the rows (or of TRIED of them), from the rest."""
        order = torch.randperm(len(targets), generator=generator)[:TRIED]
        held, kept = order.tensor_split([int(HELD_OUT * len(order))])
        quality = 0.5
        if len(held) and len(kept):
            self._fit(features[kept], targets[kept], weights[kept])
            quality = auroc(self.mean(features[held]), targets[held])
        self._fit(features, targets, weights)
        return Fit(len(targets), quality)

    def mean(self, features: Tensor) -> Tensor:
        """The guess alone, [N]."""
        return self._state["prior"] + self._cross(features) @ self._state["weights"]

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of P(liked), each [N]. Needs a fit, not a load."""
        assert self._cholesky is not None, "fit comes first"
        cross = self._cross(features)
        solved = torch.linalg.solve_triangular(self._cholesky, cross.T, upper=False)
        variance = (1 + 2 * ALONE - solved.square().sum(0)).clamp_min(0)
        mean = self._state["prior"] + cross @ self._state["weights"]
        # A vote's own variance is at most 1/4, which makes the prior's 1/4 over NOISE.
        return mean, (variance / (4 * NOISE)).sqrt()

    def _fit(self, features: Tensor, targets: Tensor, weights: Tensor) -> None:
        features = features.half()  # as they are kept: the same guesses before and after
        self._view = _View(features.float())
        noise = NOISE / weights.clamp_min(1e-3)
        cholesky = torch.linalg.cholesky(self._cross(features.float()) + noise.diag())
        prior = (targets * weights).sum() / weights.sum().clamp_min(1e-6)
        solved = torch.cholesky_solve((targets - prior)[:, None], cholesky)
        self._state = {"features": features, "prior": prior, "weights": solved.squeeze(1)}
        self._cholesky = cholesky

    def _cross(self, features: Tensor) -> Tensor:
        """Kernel [N, M] between features [N, 3H] and those of the fit."""
        assert self._view is not None, "fit or load comes first"
        prompts, answers = self._view(features)
        prompt = _near(prompts, self._view.prompts, PROMPT_SCALE)
        answer = (-torch.cdist(answers, self._view.answers).square() / 2).exp()
        return prompt * answer + ALONE * (prompt + answer)


class _View:
    """Features as points: prompts [N, H] on a sphere, and answers [N, 2H] at a scale that makes the
    usual distance between answers to one kind of prompt about one."""

    def __init__(self, features: Tensor) -> None:
        prompt, said = self._split(features)
        self._centre, self._spread = prompt.mean(0), prompt.std(0, correction=0).clamp_min(1e-3)
        self.prompts = self._sphere(prompt)
        near = _near(self.prompts, self.prompts, ALIKE_SCALE).fill_diagonal_(0)
        usual = near @ said / near.sum(1, keepdim=True).clamp_min(1e-30)
        self._scale = (said - usual).square().sum(1).mean().sqrt().clamp_min(1e-3)
        self.answers = said / self._scale

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        prompt, said = self._split(features)
        return self._sphere(prompt), said / self._scale

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        size = features.shape[1] // 3
        return features[:, :size], features[:, size:]

    def _sphere(self, prompt: Tensor) -> Tensor:
        rows = (prompt - self._centre) / self._spread
        return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)


def _near(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return ((a @ b.T - 1) / scale).exp()
