"""A tiny model, a policy on it that is not its base any more, and judged answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import Experience, LoggedPrompt
from burnish.learner.rules import TrainingData
from burnish.learner.rules.corrections import Pair
from burnish.learner.tasks import TaskSource
from burnish.learner.training.sampling import PolicySampler
from burnish.learner.training.trainer import PolicyTrainer, TrainerConfig
from burnish.serving.engine import LocalEngine
from burnish.serving.reward.features import MANNER
from torch import Tensor

# The rule's loss alone, and its gradient as it is.
BARE = TrainerConfig(learning_rate=1e-2, clip_norm=1e9, kl_weight=0.0, kl_budget=1e9)


@pytest.fixture(scope="package")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="package")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


@pytest.fixture
def trainer(model: LoadedModel) -> Iterator[PolicyTrainer]:
    """A trainer of an adapter that has moved away from the base, by some nats an answer."""
    spec = LoraSpec(4, 8, default_targets(model.model))
    generator = torch.Generator().manual_seed(3)
    moved = {
        name: torch.randn(tensor.shape, generator=generator) * 0.06
        for name, tensor in init_adapter(model.model, spec, 0).tensors.items()
    }
    made = PolicyTrainer(model, AdapterWeights(spec, moved), BARE)
    yield made
    made.close()


@pytest.fixture
def policy(
    model: LoadedModel, engine: LocalEngine, trainer: PolicyTrainer
) -> Iterator[PolicySampler]:
    made = PolicySampler(model, engine, trainer)
    yield made
    made.close()


def judged(reward: float, **changes: Any) -> Experience:
    fields: dict[str, Any] = {
        "interaction_id": "i",
        "choice": 0,
        "version": 1,
        "staleness": 0,
        "tenant": "t",
        "user": None,
        "prompt_ids": (1, 2),
        "token_ids": (3,),
        "logprobs": (-1.0,),
        "reward": reward,
        "weight": 1.0,
        "judged_at": 0.0,
    }
    return Experience(**{**fields, **changes})


def data_of(
    log: Sequence[Experience],
    *,
    features: Tensor | None = None,
    prompts: Sequence[tuple[int, ...]] = (),
    tasks: TaskSource | None = None,
    pairs: Sequence[Pair] = (),
) -> TrainingData:
    """Judged answers as training data, with features of nothing unless there are some."""
    evidence = Evidence(
        torch.zeros(len(log), 6 + MANNER) if features is None else features,
        torch.tensor([(item.reward + 1) / 2 for item in log]),
        torch.tensor([item.weight for item in log]),
        [item.user for item in log],
    )
    asked = [LoggedPrompt(prompt) for prompt in prompts]
    return TrainingData(log, evidence, asked, pairs, tasks or TaskSource())


def random_log(count: int, **changes: Any) -> list[Experience]:
    """Random answers to random prompts, two of three liked; the log knows no log-probabilities."""
    rng = Random(0)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        return tuple(rng.choices(range(20, 200), k=rng.randint(least, most)))

    return [
        judged(
            1.0 if number % 3 else -1.0,
            prompt_ids=tokens(3, 8),
            token_ids=tokens(2, 6),
            logprobs=(),
            **changes,
        )
        for number in range(count)
    ]
