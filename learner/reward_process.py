"""What people would think of an answer: a Gaussian process on the frozen base's hidden states.

Two answers are alike when their prompts are alike and what was said is alike; a product of two
kernels says just that, and adds a little of each alone. The posterior mean is the guess, the
posterior deviation says how far to trust it: it grows where nobody has judged yet, which keeps
the policy from chasing what no one has seen. A judgement of half the weight is one of twice the
noise. Exact inference: about a second at the 4,096 judgements it is meant for. At a thousand noisy votes it ranks answers to one
prompt about as well as the heads (heads.py) do at more than two thousand. Left out: fine-tuning the
features, and fitting the numbers below, which were chosen with one vote in five wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from burnish.learner.reward_model import Fit, auroc
from torch import Tensor

PROMPT_SCALE, ANSWER_SCALE = 0.5, 0.7  # of the cosine distance, in the exponent
ALONE = 0.3  # of each kernel by itself, beside their product
NOISE = 6.0  # variance of a vote, in units of the prior's
HELD_OUT = 0.1


class RewardProcess:
    """P(a person likes this answer), from features [N, 3H]: prompt mean, answer mean, last token."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size  # of the features; nothing here is random, so the seed is not used
        self._state: dict[str, Tensor] = {}
        self._cholesky: Tensor | None = None

    def state(self) -> dict[str, Tensor]:
        """What `load` needs to give the same guesses (but not how sure they are)."""
        return self._state

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> RewardProcess:
        model = cls(state["centre"].shape[0])
        model._state = dict(state)
        return model

    def fit(
        self, features: Tensor, targets: Tensor, weights: Tensor, *, generator: torch.Generator
    ) -> Fit:
        """Fit to targets [N] in [0, 1] with weights [N]; a tenth is tried on a fit to the rest."""
        order = torch.randperm(len(targets), generator=generator)
        held, kept = order.tensor_split([int(HELD_OUT * len(order))])
        quality = 0.5
        if len(held) and len(kept):
            self._fit(features[kept], targets[kept], weights[kept])
            quality = auroc(self.mean(features[held]), targets[held])
        self._fit(features, targets, weights)
        return Fit(len(targets), quality)

    def mean(self, features: Tensor) -> Tensor:
        """The guess alone, [N]."""
        state = self._state
        prior = state["prior"]
        return prior + self._kernel(self._points(features)) @ state["weights"]

    def score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of P(liked), each [N]. Needs a fit, not a load."""
        assert self._cholesky is not None, "fit comes first"
        cross = self._kernel(self._points(features))
        solved = torch.linalg.solve_triangular(self._cholesky, cross.T, upper=False)
        variance = (1 + 2 * ALONE - solved.square().sum(0)).clamp_min(0)
        mean = self._state["prior"] + cross @ self._state["weights"]
        # A vote's own variance is at most 1/4, which makes the prior's 1/4 over NOISE.
        return mean, (variance / (4 * NOISE)).sqrt()

    def _fit(self, features: Tensor, targets: Tensor, weights: Tensor) -> None:
        self._state = {
            "centre": features.mean(0),
            "spread": features.std(0, correction=0).clamp_min(1e-3),
        }
        points = self._points(features)
        self._state["points"] = points
        noise = NOISE / weights.clamp_min(1e-3)
        cholesky = torch.linalg.cholesky(self._kernel(points) + noise.diag())
        prior = (targets * weights).sum() / weights.sum().clamp_min(1e-6)
        solved = torch.cholesky_solve((targets - prior)[:, None], cholesky)
        self._state |= {"prior": prior, "weights": solved.squeeze(1)}
        self._cholesky = cholesky

    def _points(self, features: Tensor) -> Tensor:
        """Standardised, prompt and answer parts each of length one [N, 2H]."""
        state, size = self._state, features.shape[1] // 3
        scaled = (features - state["centre"]) / state["spread"]
        prompt, answer = scaled[:, :size], scaled[:, size : 2 * size]
        return torch.cat([_unit(prompt), _unit(answer)], dim=1)

    def _kernel(self, points: Tensor) -> Tensor:
        """[N, M] between points and those of the fit."""
        known, size = self._state["points"], points.shape[1] // 2
        prompt = ((points[:, :size] @ known[:, :size].T - 1) / PROMPT_SCALE).exp()
        answer = ((points[:, size:] @ known[:, size:].T - 1) / ANSWER_SCALE).exp()
        return prompt * answer + ALONE * (prompt + answer)


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
