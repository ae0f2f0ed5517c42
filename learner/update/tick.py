"""The update tick: from new judgements to a version in the registry, and perhaps to the champion.

    begin -> train -> examine -> register -> promote -> tell

A killed tick is taken up where its attempt (attempts.py) and its checkpoint stand; each part can be
repeated without harm. One process keeps model, engine and suite loaded between ticks.
"""

from __future__ import annotations

import time
from functools import cached_property

import redis
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import load_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.gate import gate
from burnish.learner.gate.gate import GateReport, Limits, Suite
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.reward import experience
from burnish.learner.reward.features import features_of
from burnish.learner.rules import Lesson, NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, publish
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import Checkpoint, Progress
from burnish.learner.update.attempts import Attempt, Attempts, NotYet
from burnish.learner.update.loop import (
    Start,
    code_version,
    expected_rewards,
    fresh_adapter,
    train,
)
from burnish.serving.engine import LocalEngine
from burnish.serving.registry import PolicyRegistry, PolicyVersion
from torch import Tensor

PROMPTS = 2048  # latest logged prompts that may be asked anew


class Learner:
    """Everything an update needs, loaded once per process and kept between ticks."""

    def __init__(self, settings: LearnerSettings, database: Database | None = None) -> None:
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.database = database or Database(settings.database)
        self.redis = redis.Redis.from_url(settings.redis_url)

    @cached_property
    def model(self) -> LoadedModel:
        return load_model(self.settings.model)

    @cached_property
    def engine(self) -> LocalEngine:
        settings, block = self.settings, 16
        usual = settings.max_prompt_tokens + settings.max_answer_tokens
        enough = max(settings.answers_per_step * usual, self.model.max_model_len) // block + 1
        return LocalEngine(
            self.model,
            max_running=settings.answers_per_step,
            block_size=block,
            num_blocks=enough,
            threads=settings.threads,
        )

    @cached_property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.settings.registry, self.settings.mlflow_artifacts, who="learner")

    @cached_property
    def suite(self) -> Suite:
        return Suite(
            self.model, self.settings.gate_tasks_per_family, self.settings.max_answer_tokens
        )

    def tick(self, policy: str) -> Tick | None:
        """One update of one policy; None when another process is at it."""
        seconds = self.settings.lease_seconds
        lease = Lease(self.redis, f"update:{policy}", seconds, database=self.database)
        try:
            with lease:
                tick = Update(self, lease, policy).run()
        except LeaseHeld:
            return None
        publish(self.redis, tick)
        return tick


class Update:
    """One tick for one policy, under its lease."""

    def __init__(self, learner: Learner, lease: Lease, policy: str) -> None:
        self.learner, self.lease, self.policy = learner, lease, policy
        self.settings, self.registry = learner.settings, learner.registry
        self.attempts = Attempts(learner.database, lease, policy)
        self.folder = self.settings.checkpoints / policy
        self.began = time.monotonic()

    def run(self) -> Tick:
        champion = self.registry.champion(self.policy) or self.registry.ensure_base(
            self.policy, self.learner.model.path, self.learner.model.sha256
        )
        attempt = self.attempts.unfinished(champion.version) or self.attempts.begin(
            champion.version, self.settings
        )
        if isinstance(attempt, NotYet):
            return self.idle(attempt.reason)
        try:
            trained = self.train(attempt, champion)
        except NothingToLearn as reason:
            self.attempts.abandon(attempt)
            return self.idle(str(reason))
        report = self.examine(trained)
        events = self.attempts.events(attempt)
        version = self.register(attempt, trained, report, events)
        self.promote(attempt, version, report)
        tick = self.tell(attempt, trained, version, report, len(events))
        self.attempts.finished(attempt, version.version, tick)
        self.prune()
        return tick

    def train(self, attempt: Attempt, champion: PolicyVersion) -> Checkpoint:
        saved = checkpoint.load(self.folder / attempt.id)
        if saved is not None and saved.progress.done:
            return saved
        start = Start.resumed(saved) if saved else self.start(attempt, champion)
        return train(
            start,
            self.folder / attempt.id,
            self.lesson(champion.version, start),
            self.learner.model,
            self.learner.engine,
            self.settings,
            alive=self.lease.check,
        )

    def start(self, attempt: Attempt, champion: PolicyVersion) -> Start:
        """From the champion's own checkpoint, optimiser and all; else from its registered weights."""
        model = self.learner.model
        progress = Progress(
            update=attempt.id,
            policy=self.policy,
            parent=attempt.parent,
            base_sha256=model.sha256,
            high_water=attempt.high_water,
            step=0,
            seconds=0.0,
            done=False,
            code=code_version(),
            seed=self.settings.seed + attempt.parent,
        )
        parent = self.attempts.of_version(champion.version)
        saved = checkpoint.load(self.folder / parent) if parent else None
        if saved is not None and saved.progress.base_sha256 == model.sha256:
            return Start.child(saved, progress)
        folder = self.registry.fetch(champion, self.settings.data_dir / "fetched")
        adapter = load_adapter(folder) if folder else fresh_adapter(model, self.settings)
        return Start(adapter, {}, {}, {}, progress)

    def lesson(self, champion: int, start: Start) -> Lesson:
        settings = self.settings
        with self.learner.database.read() as session:
            judged = experience.load(
                session,
                self.policy,
                champion=champion,
                limit=settings.history,
                max_staleness=settings.max_staleness,
            )
            asked = experience.prompts(session, self.policy, PROMPTS)
        room = settings.max_prompt_tokens
        judged = [
            e
            for e in judged
            if len(e.prompt_ids) <= room and len(e.token_ids) <= 2 * settings.max_answer_tokens
        ]
        if not judged:
            raise NothingToLearn(f"no judged answer has a prompt of at most {room} tokens")
        features = features_of(self.learner.database, self.learner.model, judged)
        trusted = experience.weigh_by_trust(judged, self.expected(start, features))
        if not trusted.experience:
            raise NothingToLearn("every judgement is in quarantine")
        return Lesson(
            experience=trusted.experience,
            features=features[trusted.indices],
            prompts=[prompt for prompt in asked if len(prompt) <= room],
            figures={
                "quarantined": float(trusted.quarantined),
                "capped": float(trusted.capped),
                "disbelieved": float(trusted.distrusted),
            },
        )

    def expected(self, start: Start, features: Tensor) -> list[float] | None:
        return expected_rewards(self.settings.reward_model, start.heads, features)

    def examine(self, trained: Checkpoint) -> GateReport:
        suite, engine = self.learner.suite, self.learner.engine
        limits = Limits(
            skill_margin=self.settings.gate_skill_margin, max_kl=self.settings.gate_max_kl
        )
        base = suite.base_trials(engine, self.settings.data_dir / "gate")
        return gate.examine(suite, engine, trained.adapter, base, limits)

    def register(
        self, attempt: Attempt, trained: Checkpoint, report: GateReport, events: list[str]
    ) -> PolicyVersion:
        """Put the version into the registry, once, and its lineage into the database."""
        version = self.registered(attempt)
        if version is None:
            self.attempts.still_ours()
            progress = trained.progress
            version = self.registry.register(
                self.policy,
                trained.adapter_folder,
                parent=attempt.parent,
                lineage={
                    "update": attempt.id,
                    "rule": self.settings.rule,
                    "code": progress.code,
                    "steps": progress.step,
                    "seconds": progress.seconds,
                    "feedback_until": attempt.started_at,
                    "feedback_ids": events,
                },
                gate_report=report.model_dump(mode="json"),
                metrics={
                    **progress.figures,
                    "gate_skill": report.skill,
                    "gate_base_skill": report.base_skill,
                },
            )
        self.attempts.registered(attempt, version.version, events)
        return version

    def registered(self, attempt: Attempt) -> PolicyVersion | None:
        """The version that a killed tick may have registered without living to write it down."""
        if attempt.version is not None:
            return self.registry.get(self.policy, attempt.version)
        for known in reversed(self.registry.versions(self.policy)):
            if known.created_at < attempt.started_at - 60:  # clocks differ a little
                return None
            version = self.registry.get(self.policy, known.version)
            if version.lineage.get("update") == attempt.id:
                return version
        return None

    def promote(self, attempt: Attempt, version: PolicyVersion, report: GateReport) -> None:
        if not report.passed or self.settings.promotes == "nothing":
            return
        self.attempts.still_ours()
        if self.settings.promotes == "challenger":
            self.registry.set_alias(self.policy, "challenger", version.version)
        elif self.registry.champion_version(self.policy) == attempt.parent:
            # Someone who moved the alias while we trained meant it.
            self.registry.promote(self.policy, version.version)

    def prune(self) -> None:
        """Keep the newest checkpoints, and those of versions that an alias names."""
        named = [v.version for v in self.registry.versions(self.policy) if v.aliases]
        spare = frozenset(filter(None, map(self.attempts.of_version, named)))
        checkpoint.prune(self.folder, self.settings.keep_checkpoints, spare)

    # -- telling -------------------------------------------------------------------------------

    def idle(self, reason: str) -> Tick:
        seconds = round(time.monotonic() - self.began, 3)
        tick = Tick("update", self.policy, "trained nothing", why_not=reason, seconds=seconds)
        self.attempts.note(tick)
        return tick

    def tell(
        self,
        attempt: Attempt,
        trained: Checkpoint,
        version: PolicyVersion,
        report: GateReport,
        judgements: int,
    ) -> Tick:
        progress = trained.progress
        if not report.passed:
            fate = "which the gate refused"
        elif self.registry.champion_version(self.policy) == version.version:
            fate = "which now serves"
        else:
            fate = "which waits for someone to promote it"
        return Tick(
            id=attempt.id,
            kind="update",
            policy=self.policy,
            did=(
                f"learnt from {judgements} new judgements in {progress.step} steps "
                f"and registered {version.ref}, {fate}"
            ),
            why_not=None if report.passed else f"gate: {report.why_not}",
            counts={
                "version": version.version,
                "parent": attempt.parent,
                "judgements": judgements,
                "steps": progress.step,
                "train_seconds": progress.seconds,
                "gate_seconds": report.seconds,
                "gate_passed": report.passed,
                "gate_skill": round(report.skill, 4),
                "gate_base_skill": round(report.base_skill, 4),
                **{name: round(value, 4) for name, value in progress.figures.items()},
            },
            seconds=round(time.monotonic() - self.began, 3),
        )
