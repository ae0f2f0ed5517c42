"""The judged answers of a policy as evidence for a reward model: weighed by trust, with their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.reward import experience
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import Experience
from burnish.learner.reward.features import features_of
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor


@dataclass(frozen=True)
class JudgedAnswers:
    """What judgements say, oldest first, and figures about whom to believe."""

    experience: Sequence[Experience]
    evidence: Evidence
    figures: Mapping[str, float]


def load_judged(
    database: Database,
    model: LoadedModel,
    settings: LearnerSettings,
    *,
    policy: str,
    champion: int,
    before: RewardModel | None,
) -> JudgedAnswers:
    """The judged answers of a policy, as of its `champion` version.

    The predictions of the reward model `before` help to weigh votes. Raises NothingToLearn.
    """
    with database.read() as session:
        judged = experience.load(
            session,
            policy,
            champion=champion,
            limit=settings.history,
            max_staleness=settings.max_staleness,
        )
    max_prompt = settings.max_prompt_tokens
    judged = [
        e
        for e in judged
        if in_vocabulary(model, (*e.prompt_ids, *e.token_ids))
        and len(e.prompt_ids) <= max_prompt
        and len(e.token_ids) <= 2 * settings.max_answer_tokens
    ]
    if not judged:
        raise NothingToLearn(f"no judged answer has a prompt of at most {max_prompt} tokens")
    features = features_of(database, model, judged)
    expected = expected_rewards(before, features)
    trusted = experience.weigh_by_trust(judged, expected, settings.trust)
    if not trusted.experience:
        raise NothingToLearn("every judgement is in quarantine")
    rewards = torch.tensor([e.reward for e in trusted.experience])
    return JudgedAnswers(
        experience=trusted.experience,
        evidence=Evidence(
            features=features[trusted.indices],
            targets=(rewards + 1) / 2,
            weights=torch.tensor([e.weight for e in trusted.experience]),
            raters=[e.user for e in trusted.experience],
        ),
        figures={
            "quarantined": float(trusted.quarantined),
            "capped": float(trusted.capped),
            "disbelieved": float(trusted.distrusted),
        },
    )


def in_vocabulary(model: LoadedModel, tokens: Sequence[int]) -> bool:
    """Whether the model knows them: those of another tokenizer, from before the base was changed, say
    nothing to this one."""
    return max(tokens) < model.config.vocab_size


def expected_rewards(model: RewardModel | None, features: Tensor) -> list[float] | None:
    """The rewards in [-1, 1] that a reward model predicts; None without one."""
    if model is None or model.size != features.shape[1]:
        return None
    return (2 * model.mean(features) - 1).clamp(-1, 1).tolist()
