"""Which logged prompts a step asks again: all alike, but nobody's beyond a share.

Who chats most would else decide what is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import accumulate
from random import Random

from burnish.learner.reward.experience import LoggedPrompt

USER_SHARE, TENANT_SHARE = 0.05, 0.5  # of the prompts, at most, where there are others


class PromptPool:
    """Draws prompts, each user's and each tenant's within their share."""

    def __init__(self, prompts: Sequence[LoggedPrompt]) -> None:
        self._prompts = prompts
        weights = _within([1.0] * len(prompts), [_rater(p) for p in prompts], USER_SHARE)
        weights = _within(weights, [prompt.tenant for prompt in prompts], TENANT_SHARE)
        self._cumulative = list(accumulate(weights))

    def draw(self, rng: Random, count: int) -> list[tuple[int, ...]]:
        drawn = rng.choices(self._prompts, cum_weights=self._cumulative, k=count)
        return [prompt.token_ids for prompt in drawn]


def _rater(prompt: LoggedPrompt) -> Hashable:
    """Those without a name are each their own: only the tenant's share holds them."""
    return prompt.person or id(prompt)


def _within(weights: Sequence[float], owners: Sequence[Hashable], share: float) -> list[float]:
    """The weights with each owner's cut to `share` of the whole."""
    totals: Counter[Hashable] = Counter()
    for weight, owner in zip(weights, owners, strict=True):
        totals[owner] += weight  # type: ignore[assignment]
    cap = max(share, 1 / max(1, len(totals))) * sum(totals.values())
    return [w * min(1.0, cap / totals[o]) for w, o in zip(weights, owners, strict=True)]
