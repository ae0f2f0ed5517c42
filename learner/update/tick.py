"""The update tick: from new judgements to a version in the registry, and perhaps to the champion.

    begin      an `Attempt`, if enough `Judgement`s are new       attempts.py
    load       `TrainingData`                                     data.py
    train      a finished `Checkpoint`                            loop.py
    evaluate   a `GateReport`                                     gate/gate.py
    register   a `PolicyVersion`, its lineage                     registration.py
    promote    the alias `champion` or `challenger`               registration.py
    summarise  the `Tick`                                         summary.py

A killed tick is taken up where its attempt (attempts.py) and its checkpoint stand; each part can be
repeated without harm. One process keeps model, engine and suite loaded between ticks.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Literal

import redis
import torch
from burnish.feedback.audit import AuditLog
from burnish.feedback.keyring import KeyringFile
from burnish.feedback.redis_clients import open_client
from burnish.feedback.telemetry.trail import Trail
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, load_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.alarms.limits import read_limits as read_alarm_limits
from burnish.learner.alarms.watching import Watch
from burnish.learner.database import Database
from burnish.learner.gate.answers import CANDIDATE, CHAMPION, BaseAnswers, Panel
from burnish.learner.gate.calibration import Calibration
from burnish.learner.gate.gate import Gate, evaluate, prepare
from burnish.learner.gate.limits import GateLimits, LimitsError, read_limits
from burnish.learner.gate.plugins import GateError, OwnGate, open_gates
from burnish.learner.gate.report import GateReport
from burnish.learner.gate.suite import Suite
from burnish.learner.lease import Lease, LeaseHeld, LeaseLost
from burnish.learner.reward import experience
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks import PackError, TaskSource, open_source
from burnish.learner.ticks import Tick, publish
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import Checkpoint, CheckpointError, TrainingProgress
from burnish.learner.training.prompts import answer_room
from burnish.learner.update.asked import load_logged
from burnish.learner.update.attempts import (
    MAX_TRIES,
    Attempt,
    Attempts,
    NotEnoughFeedback,
)
from burnish.learner.update.data import load_training_data
from burnish.learner.update.fates import tell_learnt, tell_weighed
from burnish.learner.update.holding import why_held
from burnish.learner.update.loop import train
from burnish.learner.update.publishing import publish_trained
from burnish.learner.update.registration import being_tried, promote, register
from burnish.learner.update.start import TrainingStart, fresh_adapter, next_start
from burnish.learner.update.summary import summarise
from burnish.learner.update.trace import UpdateTrace
from burnish.serving.engine import LocalEngine
from burnish.serving.registry import (
    BASE_VERSION,
    PolicyRegistry,
    PolicyVersion,
    RegistryError,
    UnknownVersion,
    signing_keys,
)
from burnish.serving.reward.reward_model import RewardModel
from sqlalchemy.exc import OperationalError

log = logging.getLogger(__name__)

BLOCK_TOKENS = 16  # of the engine's cache
# What stops a try without saying anything about the attempt: services away, a full disk.
NOT_ITS_FAULT = (RegistryError, LeaseLost, redis.RedisError, OperationalError, OSError)


class Learner:
    """Everything an update needs, loaded once per process and kept between ticks."""

    def __init__(self, settings: LearnerSettings, database: Database | None = None) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.database = database or Database(settings.database)
        self.redis = open_client(settings.redis_url, socket_timeout=10)

    @cached_property
    def model(self) -> LoadedModel:
        """Lossless whatever BURNISH_WEIGHTS has serving round to: gradients, fresh answers, features and
        the gate's results are of what is trained, which every format of it stands on."""
        return load_model(self.settings.model)

    @cached_property
    def engine(self) -> LocalEngine:
        settings = self.settings
        sequence = settings.max_prompt_tokens + settings.max_answer_tokens
        tokens = max(settings.answers_per_step * sequence, self.model.max_model_len)
        return LocalEngine(
            self.model,
            max_running=settings.answers_per_step,
            block_size=BLOCK_TOKENS,
            num_blocks=tokens // BLOCK_TOKENS + 1,
            threads=settings.threads,
        )

    @cached_property
    def keys(self) -> KeyringFile:
        """What signs versions and reward models."""
        return signing_keys(self.settings.data_dir)

    @cached_property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(
            self.settings.registry,
            self.settings.mlflow_artifacts,
            who="learner",
            keys=self.keys,
            audit=AuditLog(self.settings.data_dir),
        )

    @cached_property
    def tasks(self) -> TaskSource:
        """The packs of BURNISH_TASKS; `auto` is the one that the model's config names, or the built-in
        one. Raises PackError."""
        found = open_source(
            self.settings.tasks, getattr(self.model.config, "task_pack", None) or "general"
        )
        if not getattr(self.model.tokenizer, "chat_template", None):
            found.note("the model has no chat template: it is asked in plain text")
        return found

    @cached_property
    def suite(self) -> Suite:
        settings = self.settings
        return Suite(
            self.model,
            self.tasks,
            settings.gate_tasks_per_family,
            answer_room(self.model, settings.max_answer_tokens),
        )

    @cached_property
    def limits(self) -> GateLimits:
        """What a candidate may lose. Raises LimitsError."""
        settings = self.settings
        return read_limits(
            settings.gate_limits,
            skill_margin=settings.gate_skill_margin,
            max_kl=settings.gate_max_kl,
        )

    @cached_property
    def watch(self) -> Watch:
        """What looks whether an alarm keeps the champion where it is."""
        return Watch(self.database, self.redis, self.settings)

    @cached_property
    def own_gates(self) -> list[OwnGate]:
        """The gates of BURNISH_GATES. Raises GateError."""
        return open_gates(self.settings.gates)

    @cached_property
    def base_answers(self) -> BaseAnswers:
        """The base's own answers at the gate, kept on disk."""
        folder = self.settings.data_dir / "gate"
        return BaseAnswers(folder, self.model.sha256, self.suite.max_tokens)

    def panel(self, **adapters: AdapterWeights) -> Panel:
        """The policies of a trial, by name, beside the base."""
        return Panel(self.model, self.engine, self.suite.max_tokens, self.base_answers, adapters)

    @cached_property
    def gate(self) -> Gate:
        """The gate, fitted to this base. Raises LimitsError and GateError."""
        return prepare(self.suite, self.panel(), self.limits, self.own_gates)

    @cached_property
    def calibration(self) -> Calibration:
        """Which families say nothing about this base; what is left out of them is noted once."""
        found = self.gate.calibration
        for note in found.notes:
            self.tasks.note(note)
        return found

    def tick(self, policy: str) -> Tick | None:
        """One update of one policy; None when another process holds its lease."""
        seconds = self.settings.lease_seconds
        lease = Lease(self.redis, f"update:{policy}", seconds, database=self.database)
        try:
            with lease:
                tick = Update(self, lease, policy).run()
        except LeaseHeld:
            return None
        publish(self.redis, tick)
        return tick


@dataclass(frozen=True)
class NoChampion:
    """Why there is no version to learn on, and what mends it."""

    reason: str


class Update:
    """One tick for one policy, under its lease."""

    def __init__(self, learner: Learner, lease: Lease, policy: str) -> None:
        self.learner, self.lease, self.policy = learner, lease, policy
        self.settings, self.registry = learner.settings, learner.registry
        self.attempts = Attempts(learner.database, lease, policy)
        self.checkpoints = self.settings.checkpoints / policy
        self.began = time.monotonic()

    def run(self) -> Tick:
        champion = self.champion()
        if isinstance(champion, NoChampion):
            return self.idle(champion.reason)
        try:
            _ = self.learner.tasks
            _ = self.learner.limits, self.learner.own_gates
        except PackError as error:
            return self.idle(f"BURNISH_TASKS: {error}")
        except LimitsError as error:
            return self.idle(f"BURNISH_GATE_LIMITS: {error}")
        except GateError as error:
            return self.idle(f"BURNISH_GATES: {error}")
        try:
            read_alarm_limits(self.settings.alarm_limits)
        except LimitsError as error:
            return self.idle(f"BURNISH_ALARM_LIMITS: {error}")
        attempt = self.attempts.unfinished(champion.version)
        if attempt is None:
            anew = self.attempts.begins_anew(champion.version) is not None
            tried = being_tried(self.registry, self.policy, self.settings)
            if tried is not None and not anew:
                return self.idle(tried)
            attempt = self.attempts.begin(champion.version, self.settings)
        if isinstance(attempt, NotEnoughFeedback):
            return self.put_base_back(champion) or self.idle(attempt.reason)
        tries = self.attempts.count_try(attempt)
        try:
            return self.make_version(attempt, champion)
        except NothingToLearn as reason:
            self.attempts.abandon(attempt)
            return self.idle(str(reason))
        except NOT_ITS_FAULT:
            with suppress(LeaseLost):
                self.attempts.uncount_try(attempt)
            raise
        except Exception as error:
            # Whatever it is, it must not come back at every tick and keep later judgements waiting.
            problem = f"{type(error).__name__}: {error}"
            self.attempts.note_problem(attempt, problem)
            if tries < MAX_TRIES:
                raise
            log.exception("the update of %s failed", self.policy)
            self.attempts.give_up(attempt, problem)
            return self.idle(
                f"{problem}; given up after {tries} tries, its judgements count again with the next"
            )

    def put_base_back(self, champion: PolicyVersion) -> Tick | None:
        """Where the champion holds what was erased and too little is left to learn from, its base serves."""
        if (
            self.settings.promotes_to == "nothing"
            or self.attempts.begins_anew(champion.version) is None
            or self.registry.paused(self.policy) is not None
        ):
            return None
        with self.learner.database.read() as session:
            left = experience.count(session, self.policy, self.settings.min_experience)
        if left >= self.settings.min_experience:
            return None
        self.attempts.check_lease()
        why = "the champion has learnt from what was erased, and too little is left to rebuild it"
        self.registry.promote(self.policy, BASE_VERSION, why=why)
        did = (
            f"put {self.policy}@{BASE_VERSION}, the base, back: {champion.ref} has learnt from what was erased,"
            f" and {left} judged answers are left"
        )
        tick = Tick("promote", self.policy, did, seconds=round(time.monotonic() - self.began, 3))
        self.attempts.record(tick)
        return tick

    def champion(self) -> PolicyVersion | NoChampion:
        """The version to learn on, made of the base where the policy is new."""
        model = self.learner.model
        found = self.registry.champion(self.policy)
        if found is None:
            if self.attempts.any_version() or self.is_registered():
                return NoChampion(
                    f"the registry names no champion of '{self.policy}': its alias was removed, or"
                    " the version or the model deleted or renamed; promote a version to go on"
                )
            found = self.registry.ensure_base(self.policy, model.path, model.sha256)
        if found.base_sha256 != model.sha256:
            return NoChampion(
                f"{found.ref} stands on another base model ({found.base_sha256[:12]} is registered,"
                f" {model.sha256[:12]} is loaded): give BURNISH_MODEL the base of the policy, or the"
                " new base a policy of its own"
            )
        return found

    def is_registered(self) -> bool:
        try:
            return bool(self.registry.versions(self.policy))
        except UnknownVersion:
            return False

    def make_version(self, attempt: Attempt, champion: PolicyVersion) -> Tick:
        """Train, evaluate, register and perhaps promote. Raises NothingToLearn."""
        events = self.attempts.events(attempt)
        trace = UpdateTrace(Trail(self.settings.redis_url), self.policy, events)
        with trace.whole():
            with trace.stage("train") as told:
                trained = self.train(attempt, champion)
                told["burnish.steps"] = trained.progress.step
            publish_trained(
                self.learner.redis,
                self.learner.keys.read(),
                self.policy,
                trained.progress.base_sha256,
                trained.rule_state,
            )
            with trace.stage("gate") as told:
                report = self.evaluate(trained, champion)
                told |= {"burnish.gate_passed": report.passed, "burnish.gate_skill": report.skill}
            with trace.stage("register") as told:
                version = register(
                    self.registry,
                    self.attempts,
                    attempt,
                    trained,
                    report,
                    events,
                    self.settings.rule,
                )
                told["burnish.policy_version"] = version.ref
            held = self.why_held() if report.passed else None
            if report.passed and held is None:
                with trace.stage("promote") as told:
                    told["burnish.alias"] = alias = self.alias_for(champion)
                    promote(self.registry, self.attempts, attempt, version, alias)
        tick = summarise(
            trained.progress,
            version,
            report,
            judgements=len(events),
            notes=list(self.learner.tasks.notes),
            serves=self.registry.champion_version(self.policy) == version.version,
            tried=self.registry.challenger_version(self.policy) == version.version,
            held=held,
            seconds=time.monotonic() - self.began,
        )
        self.attempts.mark_finished(attempt, version.version, tick)
        tell_learnt(self.learner.redis, version, attempt.id, report.passed, events)
        self.prune_checkpoints()
        return tick

    def alias_for(self, champion: PolicyVersion) -> Literal["champion", "challenger", "nothing"]:
        """Of a version that passed. One that takes the place of erased data does not wait for a canary."""
        alias = self.settings.promotes_to
        anew = self.attempts.begins_anew(champion.version) is not None
        return "champion" if alias == "challenger" and anew else alias

    def why_held(self) -> str | None:
        """Why nothing is promoted now whatever the gate says; None where it may be."""
        if self.settings.promotes_to == "nothing":
            return None
        return why_held(self.registry, self.learner.watch, self.policy)

    def train(self, attempt: Attempt, champion: PolicyVersion) -> Checkpoint:
        """The attempt's finished checkpoint: read, resumed or trained from the champion."""
        folder = self.checkpoints / attempt.id
        saved = self.saved(folder)
        if saved is not None and saved.progress.done:
            return saved
        start = TrainingStart.resume(saved) if saved else self.start(attempt, champion)
        data = load_training_data(
            self.learner.database,
            self.learner.model,
            self.settings,
            policy=self.policy,
            champion=champion.version,
            rule_state=start.rule_state,
            tasks=self.learner.tasks,
            calibration=self.learner.calibration,
        )
        tell_weighed(self.learner.redis, self.policy, data.fates, self.attempts.events(attempt))
        return train(
            start,
            folder,
            data,
            self.learner.model,
            self.learner.engine,
            self.settings,
            check_lease=self.lease.check,
        )

    def start(self, attempt: Attempt, champion: PolicyVersion) -> TrainingStart:
        """From the champion's checkpoint, optimiser state included, or anew from the base; without a
        checkpoint, from its registered weights."""
        model = self.learner.model
        progress = TrainingProgress(
            update=attempt.id,
            policy=self.policy,
            parent=attempt.parent,
            base_sha256=model.sha256,
            high_water=attempt.high_water,
            step=0,
            seconds=0.0,
            done=False,
            code=package_version("burnish"),
            seed=self.settings.seed + attempt.high_water,
        )
        parent = self.attempts.id_of_version(champion.version)
        saved = self.saved(self.checkpoints / parent) if parent else None
        if self.attempts.begins_anew(champion.version) is not None:
            # Neither weights nor reward model: both have learnt from what was erased.
            generation = saved.progress.generation + 1 if saved else progress.generation
            return TrainingStart(
                fresh_adapter(model, self.settings),
                replace(progress, since_base=0, generation=generation),
            )
        if saved is not None:
            refused = self.attempts.refused(champion.version)
            return next_start(saved, progress, model, self.settings, refused)
        adapter = self.registered_weights(champion) or fresh_adapter(model, self.settings)
        return TrainingStart(adapter, progress)

    def saved(self, folder: Path) -> Checkpoint | None:
        """The checkpoint at `folder`, if it can be read and stands on the base that is loaded."""
        try:
            found = checkpoint.load(folder)
        except CheckpointError as error:
            log.error("a checkpoint is passed over: %s", error)
            return None
        base = self.learner.model.sha256
        return found if found and found.progress.base_sha256 == base else None

    def evaluate(self, trained: Checkpoint, champion: PolicyVersion) -> GateReport:
        """Put the trained adapter through the gate, beside the champion and the base."""
        before = self.registered_weights(champion)
        adapters = {CANDIDATE: trained.adapter} | ({CHAMPION: before} if before else {})
        learner, reward = self.learner, RewardModel.load(trained.rule_state)
        logged = None
        if reward is not None:
            logged = load_logged(
                learner.database,
                learner.model,
                self.settings,
                policy=self.policy,
                champion=champion.version,
                reward=reward,
            )
        return evaluate(learner.gate, learner.panel(**adapters), logged)

    def registered_weights(self, version: PolicyVersion) -> AdapterWeights | None:
        """A version's adapter as it is registered; None for the base."""
        folder = self.registry.fetch(version, self.settings.data_dir / "fetched")
        return load_adapter(folder) if folder else None

    def idle(self, reason: str) -> Tick:
        """The line of a tick that trained nothing."""
        seconds = round(time.monotonic() - self.began, 3)
        tick = Tick("update", self.policy, "trained nothing", why_not=reason, seconds=seconds)
        self.attempts.record(tick)
        return tick

    def prune_checkpoints(self) -> None:
        """Keep the newest checkpoints, and those of versions that an alias names."""
        named = [v.version for v in self.registry.versions(self.policy) if v.aliases]
        spare = frozenset(filter(None, map(self.attempts.id_of_version, named)))
        checkpoint.prune(self.checkpoints, self.settings.keep_checkpoints, spare)
