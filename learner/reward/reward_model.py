"""Reward models by name: `gaussian_process` (the default) and `ensemble`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.learner.reward.base import RewardModel
from burnish.learner.reward.ensemble import RewardEnsemble
from burnish.learner.reward.gaussian_process import RewardGaussianProcess

REWARD_MODELS: dict[str, type[RewardModel]] = {
    "gaussian_process": RewardGaussianProcess,
    "ensemble": RewardEnsemble,
}


def make(kind: str, size: int, seed: int) -> RewardModel:
    """An unfitted model of a kind, over features of `size` numbers."""
    return REWARD_MODELS[kind](size, seed)


def load(kind: str, state: Mapping[str, Any]) -> RewardModel | None:
    """The model saved in `state`; None when there is none, or when it is of another kind."""
    try:
        return REWARD_MODELS[kind].load(state)
    except KeyError:
        return None
