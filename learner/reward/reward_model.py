"""Reward models by name: `process` (the default; a Gaussian process) and `heads` (an ensemble)."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.learner.reward.base import RewardModel
from burnish.learner.reward.gaussian_process import RewardProcess
from burnish.learner.reward.linear_heads import RewardHeads
from torch import Tensor

KINDS = {"process": RewardProcess, "heads": RewardHeads}


def make(kind: str, size: int, seed: int) -> RewardModel:
    """An empty model of a kind, `process` or `heads`."""
    return KINDS[kind](size, seed)


def load(kind: str, state: Mapping[str, Tensor]) -> RewardModel | None:
    """A saved model; None when there is none, or when it is of another kind."""
    try:
        return KINDS[kind].load(state)
    except KeyError:
        return None
