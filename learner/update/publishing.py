"""The reward model, published between updates: what people said acts before any weight moves.

Fitted to what an update would learn from, with the hyperparameters that the last update found, as soon as
judgements have come, changed or gone. A publisher is a process of its own: updates take minutes, and the
intake waits for nobody. Left out: how it travels (serving/reward/publication.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from burnish.feedback.keyring import Keyring
from burnish.kernels.folder import open_folder
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.reward import experience
from burnish.learner.reward.fitting import fit
from burnish.learner.reward.marginal_likelihood import aged
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.judged import load_judged
from burnish.serving.registry import signing_keys
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.publication import (
    MODEL,
    NOTICE,
    Notice,
    RewardError,
    key_of,
    noticed,
    pack,
    publish,
    replace_published,
    sha256_of,
    verified,
    withdraw,
)
from burnish.serving.reward.reward_model import RewardModel

log = logging.getLogger(__name__)

LEAST = 16  # judged answers
RESTS = 4  # times as long as the last one took: at most a fifth of a core goes into it


class RewardPublisher:
    """Publishes the reward models of policies; one process keeps it, and the base loaded."""

    def __init__(self, settings: LearnerSettings, database: Database, client: Any) -> None:
        torch.set_num_threads(settings.threads)
        self._settings, self._database, self._redis = settings, database, client
        self._keys = signing_keys(settings.data_dir)

    @cached_property
    def model(self) -> LoadedModel:
        return load_model(self._settings.model)

    @cached_property
    def base_sha256(self) -> str:
        """Of the model, which need not be loaded while nothing is new."""
        return open_folder(self._settings.model).sha256

    def publish(self, policy: str) -> str:
        """Publish what is known of a policy, if that has changed; what was done, or why nothing."""
        seconds = self._settings.lease_seconds
        try:
            with Lease(self._redis, f"reward:{policy}", seconds, database=self._database):
                return self._publish(policy)
        except LeaseHeld:
            return "another process publishes"

    def _publish(self, policy: str) -> str:
        with self._database.read() as session:
            known = experience.known(session, policy)
            judged = experience.count(session, policy, LEAST)
        published = self._redis.hget(key_of(policy), NOTICE)
        if judged < LEAST:
            return self._withdraw(policy, published, f"{judged} judged answers, {LEAST} are needed")
        notice = self._ours(policy, published)
        if notice is not None and notice.known == known:
            return "nothing new"
        if notice is not None and time.time() - notice.time < RESTS * notice.seconds:
            return f"the last one took {notice.seconds:.1f} s"
        _ = self.model  # loading it is no part of what each one takes
        began = time.time()
        try:
            model = self._fit(policy)
        except NothingToLearn as reason:
            return self._withdraw(policy, published, str(reason))
        content = pack(model)
        notice = Notice(
            policy=policy,
            base_sha256=self.base_sha256,
            sha256=sha256_of(content),
            votes=len(model.weights),
            known=known,
            time=time.time(),
            seconds=round(time.time() - began, 3),
        ).signed(self._keys.read())
        if not replace_published(self._redis, notice, content, before=published):
            return "an update has published meanwhile"
        return f"published what {notice.votes} judged answers tell, in {notice.seconds:.1f} s"

    def _fit(self, policy: str) -> RewardModel:
        """With the hyperparameters of what is published, whose predictions help to weigh votes."""
        before = self._published(policy)
        with self._database.read() as session:
            newest = experience.newest_version(session, policy)
        evidence = load_judged(
            self._database,
            self.model,
            self._settings,
            policy=policy,
            champion=newest,
            before=before,
        ).evidence
        of = before.hyperparameters if before else Hyperparameters()
        return fit(evidence, aged(evidence, of), of, seed=self._settings.seed).model

    def _ours(self, policy: str, published: bytes | None) -> Notice | None:
        """The notice, unless there is none, or one that serving would refuse."""
        if published is None:
            return None
        try:
            return noticed(policy, self.base_sha256, published, self._keys.read())
        except RewardError as error:
            log.warning("the reward model of %s is published anew: %s", policy, error)
            return None

    def _published(self, policy: str) -> RewardModel | None:
        fields = [NOTICE, MODEL]
        found = dict(zip(fields, self._redis.hmget(key_of(policy), fields), strict=True))
        try:
            return verified(policy, self.base_sha256, found, self._keys.read())[1]
        except RewardError:  # or there is none
            return None

    def _withdraw(self, policy: str, published: bytes | None, reason: str) -> str:
        """What was published may know judgements that were erased."""
        if published is not None:
            withdraw(self._redis, policy)
        return reason


def publish_trained(
    client: Any, keyring: Keyring, policy: str, base_sha256: str, rule_state: Mapping[str, Any]
) -> None:
    """Publish the reward model that an update trained by, if its rule has one; with it the next ones get
    its hyperparameters."""
    model = RewardModel.load(rule_state)
    if model is None:
        return
    content = pack(model)
    notice = Notice(
        policy=policy,
        base_sha256=base_sha256,
        sha256=sha256_of(content),
        votes=len(model.weights),
        known="",  # judgements have come since
        time=time.time(),
        seconds=0.0,
    )
    publish(client, notice.signed(keyring), content)
