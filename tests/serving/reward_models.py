"""Reward models for tests, fitted to a few judged answers and published as the learner does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
import torch
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import fit
from burnish.serving.engine import StubEngine
from burnish.serving.registry import signing_keys
from burnish.serving.reward.features import answer_features, layers_read
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.publication import Notice, pack, publish, sha256_of
from burnish.serving.reward.reward_model import RewardModel

CERTAIN = Hyperparameters(noise=1e-3)
ASKED = ("Hi", "Good day", "Who are you?", "Are you there?")


def features_by(engine: StubEngine, prompt: str, answers: Sequence[str]) -> torch.Tensor:
    """Of answers to one prompt, [N, 3H + MANNER]."""
    tokens = [list(answer.encode()) for answer in answers]
    layers = layers_read(engine.depth or 0)
    asked, *said = asyncio.run(engine.states(list(prompt.encode()), tokens, layers))
    return torch.stack([answer_features(asked, *both) for both in zip(said, answers, strict=True)])


def liking(engine: StubEngine, said: Sequence[str], liked: Sequence[float]) -> RewardModel:
    """Of how people like these answers, whatever they ask of the stub."""
    prompts = [f"user: {asked}<|end|>\nassistant: " for asked in ASKED]
    features = torch.cat([features_by(engine, prompt, said) for prompt in prompts])
    return fitted(features, [*liked] * len(prompts))


def fitted(
    features: torch.Tensor, liked: Sequence[float], of: Hyperparameters = CERTAIN
) -> RewardModel:
    """To judgements of these answers; by default without much doubt left."""
    count = len(liked)
    evidence = Evidence(features, torch.tensor(liked), torch.ones(count), ["ada"] * count)
    return fit(evidence, torch.zeros(count), of).model


def notice_of(model: RewardModel, data_dir: Path, **changes: Any) -> Notice:
    """Of this model, signed by the learner of the data folder."""
    said = {
        "policy": "default",
        "base_sha256": "0" * 64,
        "sha256": sha256_of(pack(model)),
        "votes": len(model.weights),
        "known": "1",
        "time": time.time(),
        "seconds": 0.1,
    }
    return Notice(**{**said, **changes}).signed(signing_keys(data_dir).read())


def publish_model(
    client: redis.Redis, model: RewardModel, data_dir: Path, **changes: Any
) -> Notice:
    notice = notice_of(model, data_dir, **changes)
    publish(client, notice, pack(model))
    return notice
