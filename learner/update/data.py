"""What an update trains on: judged answers weighted by trust, their features, and logged prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.reward import experience
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import Experience
from burnish.learner.reward.features import features_of
from burnish.learner.rules import NothingToLearn, TrainingData
from burnish.learner.rules.corrections import Pair, corrections
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks import TaskSource
from burnish.serving.reward.features import base_features
from burnish.serving.reward.reward_model import RewardModel
from torch import Tensor

PROMPTS = 2048  # latest logged prompts to sample from


def load_training_data(
    database: Database,
    model: LoadedModel,
    settings: LearnerSettings,
    *,
    policy: str,
    champion: int,
    rule_state: Mapping[str, Any],
    tasks: TaskSource,
) -> TrainingData:
    """The training data of a policy, as of its `champion` version, with the tasks to rehearse.

    `rule_state` may hold the parent's reward model, whose predictions help to weigh votes. Raises
    NothingToLearn.
    """
    with database.read() as session:
        judged = experience.load(
            session,
            policy,
            champion=champion,
            limit=settings.history,
            max_staleness=settings.max_staleness,
        )
        prompts = experience.prompts(session, policy, PROMPTS)
    max_prompt = settings.max_prompt_tokens
    # Answers of another tokenizer, from before the base was changed, say nothing to this one.
    vocabulary = model.model.get_input_embeddings().num_embeddings
    judged = [e for e in judged if max(*e.prompt_ids, *e.token_ids) < vocabulary]
    prompts = [
        prompt
        for prompt in prompts
        if len(prompt.token_ids) <= max_prompt and max(prompt.token_ids) < vocabulary
    ]
    judged = [
        e
        for e in judged
        if len(e.prompt_ids) <= max_prompt and len(e.token_ids) <= 2 * settings.max_answer_tokens
    ]
    if not judged:
        raise NothingToLearn(f"no judged answer has a prompt of at most {max_prompt} tokens")
    features = features_of(database, model, judged)
    expected = expected_rewards(rule_state, features)
    trusted = experience.weigh_by_trust(judged, expected, settings.trust)
    if not trusted.experience:
        raise NothingToLearn("every judgement is in quarantine")
    pairs = list(corrections(trusted.experience, model, 2 * settings.max_answer_tokens))
    return TrainingData(
        experience=trusted.experience,
        evidence=evidence_of(model, trusted.experience, features[trusted.indices], pairs),
        prompts=prompts,
        corrections=pairs,
        tasks=tasks,
        figures={
            "quarantined": float(trusted.quarantined),
            "capped": float(trusted.capped),
            "disbelieved": float(trusted.distrusted),
            "corrections": float(len(pairs)),
        },
    )


def evidence_of(
    model: LoadedModel,
    judged: Sequence[Experience],
    features: Tensor,
    corrections: Sequence[Pair],
) -> Evidence:
    """What a reward model is fitted to: judged answers with their features [N, 3H], and corrections, which
    are liked."""
    targets = [(item.reward + 1) / 2 for item in judged] + [1.0] * len(corrections)
    weights = [item.weight for item in judged] + [pair.weight for pair in corrections]
    raters = [item.user for item in judged] + [pair.rater for pair in corrections]
    times = [item.judged_at for item in judged] + [pair.judged_at for pair in corrections]
    if corrections:
        written = [(pair.chosen.prompt_ids, pair.chosen.token_ids) for pair in corrections]
        features = torch.cat([features, base_features(model, written)])
    order = sorted(range(len(times)), key=times.__getitem__)
    return Evidence(
        features[order],
        torch.tensor(targets)[order],
        torch.tensor(weights)[order],
        # Those without a name are each their own.
        [raters[row] if raters[row] is not None else row for row in order],
    )


def expected_rewards(rule_state: Mapping[str, Any], features: Tensor) -> list[float] | None:
    """The rewards in [-1, 1] that the parent's reward model predicts; None while there is none."""
    model = RewardModel.load(rule_state)
    if model is None or model.size != features.shape[1]:
        return None
    return (2 * model.mean(features) - 1).clamp(-1, 1).tolist()
