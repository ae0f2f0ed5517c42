"""Shadow mode: a challenger answers logged prompts, nobody sees it, and the reward model compares.

As the gate does it (gate/logged.py), on the prompts most lately asked, which by now are others: candidate and champion
answer with the same seeds, whoever asked is left out of the votes that judge, at equal length. Left out: what follows
(canary/decision.py).
"""

from __future__ import annotations

import logging
from dataclasses import replace

from burnish.kernels.lora import AdapterWeights, load_adapter
from burnish.learner.gate.answers import CANDIDATE, CHAMPION
from burnish.learner.gate.logged import check_logged
from burnish.learner.gate.report import Check
from burnish.learner.rules import NothingToLearn
from burnish.learner.tables import AttemptRow
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import CheckpointError
from burnish.learner.update.asked import load_logged
from burnish.learner.update.tick import Learner
from burnish.serving.reward.reward_model import RewardModel
from sqlalchemy import select

log = logging.getLogger(__name__)


def compare_in_shadow(
    learner: Learner, policy: str, version: int, champion: int, prompts: int
) -> Check | str:
    """Have both answer up to so many prompts: by how much foreseen thumbs moved against the champion, with a 95 %
    bound for each side; or why nothing can be said. Raises RegistryError."""
    try:
        logged = load_logged(
            learner.database,
            learner.model,
            learner.settings,
            policy=policy,
            champion=champion,
            reward=_reward_model(learner, policy, version),
        )
    except NothingToLearn as reason:
        return str(reason)
    adapters = {CANDIDATE: _weights(learner, policy, version)}
    adapters |= {CHAMPION: _weights(learner, policy, champion)}
    panel = learner.panel(**{name: of for name, of in adapters.items() if of is not None})
    with panel.seated():
        checks = check_logged(
            panel, replace(logged, prompts=logged.prompts[:prompts]), learner.limits
        )
    against = f"preference/{panel.references[0]}"
    found = next((check for check in checks if check.name == against), None)
    return found or "too little was asked to compare"


def _weights(learner: Learner, policy: str, version: int) -> AdapterWeights | None:
    """None for the base."""
    found = learner.registry.get(policy, version)
    folder = learner.registry.fetch(found, learner.settings.data_dir / "fetched")
    return load_adapter(folder) if folder else None


def _reward_model(learner: Learner, policy: str, version: int) -> RewardModel | None:
    """That of the update which made the version; None where its checkpoint is gone, or somebody brought it."""
    query = select(AttemptRow.id).where(AttemptRow.policy == policy, AttemptRow.version == version)
    with learner.database.read() as session:
        attempt = session.scalars(query).first()
    if attempt is None:
        return None
    try:
        saved = checkpoint.load(learner.settings.checkpoints / policy / attempt)
    except CheckpointError as error:
        log.error("a checkpoint is passed over: %s", error)
        return None
    return RewardModel.load(saved.rule_state) if saved else None
