"""What an update trains on: judged answers weighted by trust, their features, and logged prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.gate.calibration import Calibration
from burnish.learner.reward import experience
from burnish.learner.rules import TrainingData
from burnish.learner.rules.comments import commented
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks import TaskSource
from burnish.learner.update.judged import in_vocabulary, load_judged
from burnish.serving.reward.reward_model import RewardModel

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
    calibration: Calibration,
) -> TrainingData:
    """The training data of a policy, as of its `champion` version, with the tasks to rehearse: those that
    tell something about the base.

    `rule_state` may hold the parent's reward model, whose hyperparameters help to weigh votes. Raises
    NothingToLearn.
    """
    judged = load_judged(
        database,
        model,
        settings,
        policy=policy,
        champion=champion,
        before=RewardModel.load(rule_state),
    )
    failures = [item for item in judged.experience if item.comments and item.reward < 0]
    with database.read() as session:
        prompts = experience.prompts(session, policy, PROMPTS)
        chats = experience.asked_chats(session, [item.interaction_id for item in failures])
    return TrainingData(
        experience=judged.experience,
        evidence=judged.evidence,
        prompts=[
            prompt
            for prompt in prompts
            if in_vocabulary(model, prompt.token_ids)
            and len(prompt.token_ids) <= settings.max_prompt_tokens
        ],
        corrections=judged.corrections,
        comments=list(commented(failures, chats, model, model.max_model_len // 2)),
        tasks=tasks.without(calibration.unrehearsed),
        solved=calibration.solved,
        figures=judged.figures,
        fates=judged.fates,
    )
