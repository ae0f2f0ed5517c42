"""Attempts at a new version: one database row each, so that a killed tick can be taken up.

    training     the row names the parent and the newest judgement that counts
    registered   the version exists and its lineage is written; from here on the alias may move
    finished     the tick's line is written
    abandoned    the champion changed meanwhile, or there was nothing to learn
    given up     it failed or died too often; `problem` says why

Every change of state is a transaction that carries the lease's fencing token. An attempt's judgements
count for its version only; the next attempt begins where its own parent ended, so along a line of
ancestors each judgement counts once, and those of a version that the gate refused count again.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.learner.database import Database
from burnish.learner.lease import Lease
from burnish.learner.reward import experience
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import AttemptRow, VersionEventRow
from burnish.learner.ticks import Tick, record
from burnish.learner.update.held import anew_since
from burnish.serving.registry import BASE_VERSION
from sqlalchemy import select, update
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

MAX_TRIES = 3  # of one attempt
UNFINISHED = ("training", "registered")


@dataclass(frozen=True)
class Attempt:
    """`parent` and `version` are versions of `policy`; `high_water` numbers the newest judgement that
    counts; `started_at` is in seconds since the epoch."""

    id: str
    policy: str
    state: str
    parent: int
    high_water: int
    started_at: float
    version: int | None
    tries: int = 0
    problem: str | None = None

    @classmethod
    def of(cls, row: AttemptRow) -> Attempt:
        return cls(
            id=row.id,
            policy=row.policy,
            state=row.state,
            parent=row.parent,
            high_water=row.high_water,
            started_at=row.started_at,
            version=row.version,
            tries=row.tries or 0,
            problem=row.problem,
        )


@dataclass(frozen=True)
class NotEnoughFeedback:
    """Why no attempt was begun."""

    reason: str


class Attempts:
    """The attempts at one policy, for the holder of its lease."""

    def __init__(self, database: Database, lease: Lease, policy: str) -> None:
        self._database, self._lease, self._policy = database, lease, policy

    def unfinished(self, champion: int) -> Attempt | None:
        """What a killed tick left unfinished, if it still fits this champion; others are
        abandoned, and one that killed its ticks is given up."""
        with self._database.read() as session:
            query = (
                select(AttemptRow)
                .where(
                    AttemptRow.policy == self._policy,
                    AttemptRow.state.in_(UNFINISHED),
                )
                .order_by(AttemptRow.started_at.desc())
            )
            unfinished = [Attempt.of(row) for row in session.scalars(query)]
            anew = anew_since(session, self._policy, champion)
        for attempt in unfinished:
            if attempt.tries >= MAX_TRIES:
                self.give_up(attempt, attempt.problem or "its process died each time")
                continue
            if anew is not None and attempt.started_at <= anew:
                self.abandon(attempt)  # it may have read what was erased since
                continue
            if champion in (attempt.parent, attempt.version):
                log.info("taking up attempt %s, which was left in %s", attempt.id, attempt.state)
                return attempt
            self.abandon(attempt)
        return None

    def begin(self, champion: int, settings: LearnerSettings) -> Attempt | NotEnoughFeedback:
        """A new attempt on top of the champion, if there is enough new feedback."""
        with self._database.write() as session:
            self._lease.fence(session)
            newest = experience.high_water(session, self._policy)
            if why := _not_enough(session, self._policy, champion, newest, settings):
                return NotEnoughFeedback(why)
            row = AttemptRow(
                id=uuid.uuid4().hex,
                policy=self._policy,
                state="training",
                parent=champion,
                high_water=newest,
                started_at=time.time(),
                version=None,
            )
            session.add(row)
            session.flush()
            return Attempt.of(row)

    def events(self, attempt: Attempt) -> list[str]:
        """The ids of the judgements that count for this attempt's version."""
        with self._database.read() as session:
            learnt, _ = _high_water_marks(session, self._policy, attempt.parent)
            return experience.new_events(session, self._policy, learnt, attempt.high_water)

    def begins_anew(self, champion: int) -> float | None:
        """Since when the champion may not be learnt on, as it holds what was erased then; None if it may."""
        with self._database.read() as session:
            return anew_since(session, self._policy, champion)

    def id_of_version(self, version: int) -> str | None:
        """The id of the attempt that made a version."""
        with self._database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == self._policy, AttemptRow.version == version
            )
            return session.scalars(query).first()

    def refused(self, champion: int) -> bool:
        """Whether an update on top of the champion made a version that does not serve."""
        with self._database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == self._policy,
                AttemptRow.parent == champion,
                AttemptRow.state == "finished",
            )
            return session.scalars(query.limit(1)).first() is not None

    def mark_registered(self, attempt: Attempt, version: int, events: Sequence[str]) -> None:
        """Write the version's lineage, before any alias names it."""
        with self._database.write() as session:
            self._lease.fence(session)
            query = select(VersionEventRow.event).where(
                VersionEventRow.policy == self._policy, VersionEventRow.version == version
            )
            known = set(session.scalars(query))
            session.add_all(
                VersionEventRow(policy=self._policy, version=version, event=event)
                for event in events
                if event not in known
            )
            _set_state(session, attempt, "registered", version)

    def mark_finished(self, attempt: Attempt, version: int, tick: Tick) -> None:
        with self._database.write() as session:
            self._lease.fence(session)
            _set_state(session, attempt, "finished", version)
            record(session, tick)

    def count_try(self, attempt: Attempt) -> int:
        """Count one more try, before it is made, since it may kill this process; returns how many."""
        self._set(attempt, tries=attempt.tries + 1)
        return attempt.tries + 1

    def uncount_try(self, attempt: Attempt) -> None:
        """The try failed by no fault of the attempt."""
        self._set(attempt, tries=attempt.tries)

    def note_problem(self, attempt: Attempt, problem: str) -> None:
        self._set(attempt, problem=problem)

    def give_up(self, attempt: Attempt, problem: str) -> None:
        """Try it no more. Its judgements count again once enough new ones have come."""
        log.error("attempt %s is given up after %d tries: %s", attempt.id, MAX_TRIES, problem)
        self._set(attempt, state="given up", problem=problem)

    def any_version(self) -> bool:
        """Whether this policy ever got a version from here."""
        with self._database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == self._policy, AttemptRow.version.is_not(None)
            )
            return session.scalars(query.limit(1)).first() is not None

    def _set(self, attempt: Attempt, **values: str | int) -> None:
        with self._database.write() as session:
            self._lease.fence(session)
            session.execute(update(AttemptRow).where(AttemptRow.id == attempt.id).values(**values))

    def abandon(self, attempt: Attempt) -> None:
        with self._database.write() as session:
            self._lease.fence(session)
            _set_state(session, attempt, "abandoned", attempt.version)

    def check_lease(self) -> None:
        """Raises LeaseLost unless this holder may still write."""
        with self._database.write() as session:
            self._lease.fence(session)

    def record(self, tick: Tick) -> None:
        """Write the line of a tick that made no version."""
        with self._database.write() as session:
            self._lease.fence(session)
            record(session, tick)


def nothing_to_do(
    session: Session, policy: str, champion: int | None, settings: LearnerSettings
) -> str | None:
    """Why an update of the policy would train nothing; None where it would, or take up an attempt."""
    unfinished = select(AttemptRow.id).where(
        AttemptRow.policy == policy, AttemptRow.state.in_(UNFINISHED)
    )
    if session.scalars(unfinished.limit(1)).first() is not None:
        return None
    newest = experience.high_water(session, policy)
    return _not_enough(session, policy, champion or BASE_VERSION, newest, settings)


def _not_enough(
    session: Session, policy: str, champion: int, newest: int, settings: LearnerSettings
) -> str | None:
    """Why the judgements up to `newest` are too few for an attempt on the champion."""
    learnt, tried = _high_water_marks(session, policy, champion)
    fresh = experience.new_events(session, policy, max(learnt, tried), newest)
    anew = anew_since(session, policy, champion)
    first_anew = anew is not None and not _tried_since(session, policy, champion, anew)
    if len(fresh) < settings.min_feedback and not first_anew:
        return (
            f"{len(fresh)} new judgements since the last update, {settings.min_feedback} make one"
            f" worth it{_given_up(session, policy, champion)}"
        )
    judged = experience.count(session, policy, settings.min_experience)
    if judged < settings.min_experience:
        return f"{judged} judged answers so far, the first update wants {settings.min_experience}"
    return None


def _tried_since(session: Session, policy: str, champion: int, since: float) -> bool:
    """Whether there was an attempt on the champion after that."""
    query = select(AttemptRow.id).where(
        AttemptRow.policy == policy, AttemptRow.parent == champion, AttemptRow.started_at > since
    )
    return session.scalars(query.limit(1)).first() is not None


def _high_water_marks(session: Session, policy: str, champion: int) -> tuple[int, int]:
    """The newest judgement the champion has learnt from, and the newest that an attempt on top of it
    has; 0 for none."""
    learnt = select(AttemptRow.high_water).where(
        AttemptRow.policy == policy, AttemptRow.version == champion
    )
    tried = (
        select(AttemptRow.high_water)
        .where(AttemptRow.policy == policy, AttemptRow.parent == champion)
        .order_by(AttemptRow.high_water.desc())
    )
    return session.scalars(learnt).first() or 0, session.scalars(tried).first() or 0


def _given_up(session: Session, policy: str, champion: int) -> str:
    """What to add to the reason why nothing is trained, if the last attempt was given up."""
    last = session.scalars(
        select(AttemptRow)
        .where(AttemptRow.policy == policy, AttemptRow.parent == champion)
        .order_by(AttemptRow.started_at.desc())
    ).first()
    if last is None or last.state != "given up":
        return ""
    return f"; the last attempt was given up after {MAX_TRIES} tries: {last.problem}"


def _set_state(session: Session, attempt: Attempt, state: str, version: int | None) -> None:
    session.execute(
        update(AttemptRow).where(AttemptRow.id == attempt.id).values(state=state, version=version)
    )
