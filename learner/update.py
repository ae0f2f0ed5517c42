"""The update tick: from new judgements to a version in the registry, and perhaps to the champion.

One attempt is one row, and moves through its states in transactions that carry the lease's fencing
token:

    training     the row says from which parent, and up to which judgement
    registered   the version exists, its lineage is written; the alias may move from here on
    finished     the tick's line is written
    abandoned    the champion changed under it, or there was nothing to learn

A killed tick is taken up where its row and its checkpoint stand. An attempt's judgements count for
its version only; the next attempt begins where its own parent ended, so along a line of ancestors
each counts once, and those of a version the gate refused are not lost.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from functools import cached_property

import redis
import torch
from burnish.kernels.lora import load_adapter
from burnish.kernels.model import LoadedModel, load_model
from burnish.learner import checkpoint, experience, gate
from burnish.learner.checkpoint import Checkpoint, Progress
from burnish.learner.db import AttemptRow, Database, VersionEventRow
from burnish.learner.features import features_of
from burnish.learner.gate import GateReport, Limits, Suite
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.report import Tick, publish, record
from burnish.learner.rules import Lesson, NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.training import Start, code_version, fresh_adapter, train
from burnish.serving.engine import LocalEngine
from burnish.serving.registry import PolicyRegistry, PolicyVersion
from sqlalchemy import select, update
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)
PROMPTS = 2048  # latest logged prompts that may be asked anew


@dataclass(frozen=True)
class Attempt:
    id: str
    policy: str
    state: str
    parent: int
    high_water: int
    started_at: float
    version: int | None

    @classmethod
    def of(cls, row: AttemptRow) -> Attempt:
        return cls(
            row.id, row.policy, row.state, row.parent, row.high_water, row.started_at, row.version
        )


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
        return LocalEngine(
            self.model,
            max_running=self.settings.answers_per_step,
            max_model_len=self.settings.max_prompt_tokens + self.settings.max_answer_tokens,
        )

    @cached_property
    def registry(self) -> PolicyRegistry:
        return PolicyRegistry(self.settings.registry, self.settings.artifacts, who="learner")

    @cached_property
    def suite(self) -> Suite:
        return Suite(
            self.model, self.settings.gate_tasks_per_family, self.settings.max_answer_tokens
        )

    def tick(self, policy: str) -> Tick | None:
        """One update of one policy; None when another process is at it."""
        lease = Lease(
            self.redis, f"update:{policy}", self.settings.lease_seconds, database=self.database
        )
        try:
            with lease:
                tick = self._tick(lease, policy)
        except LeaseHeld:
            return None
        publish(self.redis, tick)
        return tick

    # -- the tick ------------------------------------------------------------------------------

    def _tick(self, lease: Lease, policy: str) -> Tick:
        began = time.monotonic()
        champion = self.registry.champion(policy) or self.registry.ensure_base(
            policy, self.model.path, self.model.sha256
        )
        attempt = self._unfinished(lease, policy, champion)
        if attempt is None:
            attempt_or_reason = self._begin(lease, policy, champion)
            if isinstance(attempt_or_reason, str):
                return self._idle(lease, policy, attempt_or_reason, began)
            attempt = attempt_or_reason
        try:
            trained = self._train(lease, attempt, champion)
        except NothingToLearn as reason:
            self._move(lease, attempt, "abandoned")
            return self._idle(lease, policy, str(reason), began)
        report = self._examine(trained)
        version = self._register(lease, attempt, trained, report)
        self._promote(lease, attempt, version, report)
        tick = self._line(attempt, trained, version, report, time.monotonic() - began)
        with self.database.write() as session:
            lease.fence(session)
            _set_state(session, attempt, "finished", version.version)
            record(session, tick)
        self._prune(policy)
        return tick

    def _unfinished(self, lease: Lease, policy: str, champion: PolicyVersion) -> Attempt | None:
        """What a killed tick left behind, if it still makes sense."""
        with self.database.read() as session:
            query = (
                select(AttemptRow)
                .where(
                    AttemptRow.policy == policy, AttemptRow.state.in_(["training", "registered"])
                )
                .order_by(AttemptRow.started_at.desc())
            )
            rows = [Attempt.of(row) for row in session.scalars(query)]
        for attempt in rows:
            if champion.version in (attempt.parent, attempt.version):
                log.info("taking up attempt %s, which was left in %s", attempt.id, attempt.state)
                return attempt
            self._move(lease, attempt, "abandoned")
        return None

    def _begin(self, lease: Lease, policy: str, champion: PolicyVersion) -> Attempt | str:
        """A new attempt, or why there is none."""
        settings = self.settings
        with self.database.write() as session:
            lease.fence(session)
            mark, tried = _marks(session, policy, champion.version)
            upto = experience.high_water(session, policy)
            fresh = experience.new_events(session, policy, max(mark, tried), upto)
            if len(fresh) < settings.min_feedback:
                return (
                    f"{len(fresh)} new judgements since the last update, "
                    f"{settings.min_feedback} make one worth it"
                )
            judged = experience.count(session, policy)
            if judged < settings.min_experience:
                return f"{judged} judged answers so far, the first update wants {settings.min_experience}"
            row = AttemptRow(
                id=uuid.uuid4().hex,
                policy=policy,
                state="training",
                parent=champion.version,
                high_water=upto,
                started_at=time.time(),
                version=None,
            )
            session.add(row)
            session.flush()
            return Attempt.of(row)

    def _train(self, lease: Lease, attempt: Attempt, champion: PolicyVersion) -> Checkpoint:
        folder = self.settings.checkpoints / attempt.policy / attempt.id
        saved = checkpoint.load(folder)
        if saved is not None and saved.progress.done:
            return saved
        start = Start.resumed(saved) if saved else self._start(attempt, champion)
        return train(
            start,
            folder,
            self._lesson(attempt.policy, champion.version),
            self.model,
            self.engine,
            self.settings,
            alive=lease.check,
        )

    def _start(self, attempt: Attempt, champion: PolicyVersion) -> Start:
        """From the champion's own checkpoint, optimiser and all; else from its registered weights."""
        progress = Progress(
            update=attempt.id,
            policy=attempt.policy,
            parent=attempt.parent,
            base_sha256=self.model.sha256,
            high_water=attempt.high_water,
            step=0,
            seconds=0.0,
            done=False,
            code=code_version(),
            seed=self.settings.seed + attempt.parent,
        )
        with self.database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == attempt.policy, AttemptRow.version == champion.version
            )
            parent = session.scalars(query).first()
        if parent is not None:
            saved = checkpoint.load(self.settings.checkpoints / attempt.policy / parent)
            if saved is not None and saved.progress.base_sha256 == self.model.sha256:
                return Start.child(saved, progress)
        folder = self.registry.fetch(champion, self.settings.data_dir / "fetched")
        adapter = load_adapter(folder) if folder else fresh_adapter(self.model, self.settings)
        return Start(adapter, {}, {}, {}, progress)

    def _lesson(self, policy: str, champion: int) -> Lesson:
        settings = self.settings
        with self.database.read() as session:
            judged = experience.load(
                session,
                policy,
                champion=champion,
                limit=settings.history,
                max_staleness=settings.max_staleness,
            )
            asked = experience.prompts(session, policy, PROMPTS)
        room = settings.max_prompt_tokens
        judged = [
            e
            for e in judged
            if len(e.prompt_ids) <= room and len(e.token_ids) <= 2 * settings.max_answer_tokens
        ]
        if not judged:
            raise NothingToLearn(f"no judged answer has a prompt of at most {room} tokens")
        return Lesson(
            experience=judged,
            features=features_of(self.database, self.model, judged),
            prompts=[prompt for prompt in asked if len(prompt) <= room],
        )

    def _examine(self, trained: Checkpoint) -> GateReport:
        limits = Limits(
            skill_margin=self.settings.gate_skill_margin, max_kl=self.settings.gate_max_kl
        )
        base = self.suite.base_trials(self.engine, self.settings.data_dir / "gate")
        return gate.examine(self.suite, self.engine, trained.adapter, base, limits)

    def _register(
        self, lease: Lease, attempt: Attempt, trained: Checkpoint, report: GateReport
    ) -> PolicyVersion:
        """Put the version into the registry and its lineage into the database, once."""
        events = self._events(attempt)
        version = self._registered(attempt)
        if version is None:
            lease.check()
            version = self.registry.register(
                attempt.policy,
                trained.adapter_folder,
                parent=attempt.parent,
                lineage={
                    "update": attempt.id,
                    "rule": self.settings.rule,
                    "code": trained.progress.code,
                    "steps": trained.progress.step,
                    "seconds": trained.progress.seconds,
                    "feedback_until": attempt.started_at,
                    "feedback_ids": events,
                },
                gate_report=report.model_dump(mode="json"),
                metrics={
                    **trained.progress.figures,
                    "gate_skill": report.skill,
                    "gate_base_skill": report.base_skill,
                },
            )
        with self.database.write() as session:
            lease.fence(session)
            for event in events:
                session.merge(
                    VersionEventRow(policy=attempt.policy, version=version.version, event=event)
                )
            _set_state(session, attempt, "registered", version.version)
        return version

    def _registered(self, attempt: Attempt) -> PolicyVersion | None:
        """The version that a killed tick may have registered without living to write it down."""
        if attempt.version is not None:
            return self.registry.get(attempt.policy, attempt.version)
        for known in reversed(self.registry.versions(attempt.policy)):
            if known.created_at < attempt.started_at - 60:
                return None
            version = self.registry.get(attempt.policy, known.version)
            if version.lineage.get("update") == attempt.id:
                return version
        return None

    def _events(self, attempt: Attempt) -> list[str]:
        with self.database.read() as session:
            mark, _ = _marks(session, attempt.policy, attempt.parent)
            return experience.new_events(session, attempt.policy, mark, attempt.high_water)

    def _promote(
        self, lease: Lease, attempt: Attempt, version: PolicyVersion, report: GateReport
    ) -> None:
        if not report.passed or self.settings.promotes == "nothing":
            return
        with self.database.write() as session:
            lease.fence(session)
        if self.settings.promotes == "challenger":
            self.registry.set_alias(attempt.policy, "challenger", version.version)
        elif self.registry.champion_version(attempt.policy) == attempt.parent:
            # Someone who moved the alias while we trained meant it.
            self.registry.promote(attempt.policy, version.version)

    # -- telling -------------------------------------------------------------------------------

    def _line(
        self,
        attempt: Attempt,
        trained: Checkpoint,
        version: PolicyVersion,
        report: GateReport,
        seconds: float,
    ) -> Tick:
        progress, events = trained.progress, self._events(attempt)
        figures = {name: round(value, 4) for name, value in progress.figures.items()}
        serving = self.registry.champion_version(attempt.policy) == version.version
        what = "which now serves" if serving else "which the gate refused"
        if report.passed and not serving:
            what = (
                "which waits as challenger"
                if self.settings.promotes == "challenger"
                else "kept aside"
            )
        return Tick(
            id=attempt.id,
            kind="update",
            policy=attempt.policy,
            did=(
                f"learnt from {len(events)} new judgements in {progress.step} steps "
                f"and registered {version.ref}, {what}"
            ),
            why_not=None if report.passed else f"gate: {report.why_not}",
            counts={
                "version": version.version,
                "parent": attempt.parent,
                "judgements": len(events),
                "steps": progress.step,
                "train_seconds": progress.seconds,
                "gate_seconds": report.seconds,
                "gate_passed": report.passed,
                "gate_skill": round(report.skill, 4),
                "gate_base_skill": round(report.base_skill, 4),
                **figures,
            },
            seconds=round(seconds, 3),
        )

    def _idle(self, lease: Lease, policy: str, reason: str, began: float) -> Tick:
        tick = Tick(
            kind="update",
            policy=policy,
            did="trained nothing",
            why_not=reason,
            seconds=round(time.monotonic() - began, 3),
        )
        with self.database.write() as session:
            lease.fence(session)
            record(session, tick)
        return tick

    def _move(self, lease: Lease, attempt: Attempt, state: str) -> None:
        with self.database.write() as session:
            lease.fence(session)
            _set_state(session, attempt, state, attempt.version)

    def _prune(self, policy: str) -> None:
        """Keep the newest checkpoints, and those of the champion and the one before it."""
        spare = [v.version for v in self.registry.versions(policy) if v.aliases]
        with self.database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == policy, AttemptRow.version.in_(spare)
            )
            names = frozenset(session.scalars(query))
        checkpoint.prune(self.settings.checkpoints / policy, self.settings.keep_checkpoints, names)


def _marks(session: Session, policy: str, champion: int) -> tuple[int, int]:
    """Up to which judgement the champion has learnt, and up to which one was tried on top of it."""
    own = select(AttemptRow.high_water).where(
        AttemptRow.policy == policy, AttemptRow.version == champion
    )
    tried = (
        select(AttemptRow.high_water)
        .where(AttemptRow.policy == policy, AttemptRow.parent == champion)
        .order_by(AttemptRow.high_water.desc())
    )
    return session.scalars(own).first() or 0, session.scalars(tried).first() or 0


def _set_state(session: Session, attempt: Attempt, state: str, version: int | None) -> None:
    session.execute(
        update(AttemptRow).where(AttemptRow.id == attempt.id).values(state=state, version=version)
    )
