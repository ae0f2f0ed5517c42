"""A tiny model and rollouts on it."""

from pathlib import Path
from random import Random

import pytest
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.training.rollouts import Rollout


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


def random_rollouts(count: int = 8, advantage: float = 1.0, logprob: float = -5.0) -> list[Rollout]:
    """Random prompts and answers, the same ones at each call."""
    rng = Random(0)
    made = []
    for _ in range(count):
        prompt = tuple(rng.randrange(20, 200) for _ in range(rng.randrange(3, 9)))
        answer = tuple(rng.randrange(20, 200) for _ in range(rng.randrange(2, 6)))
        made.append(Rollout(prompt, answer, (logprob,) * len(answer), advantage))
    return made
