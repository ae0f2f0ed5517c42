"""Attempts at a new version: one row each, from the first judgement read to the line in the log.

    training     the row says from which parent, and up to which judgement
    registered   the version exists, its lineage is written; the alias may move from here on
    finished     the tick's line is written
    abandoned    the champion changed under it, or there was nothing to learn

Every change of state is a transaction that carries the lease's fencing token. An attempt's
judgements count for its version only; the next attempt begins where its own parent ended, so along
a line of ancestors each counts once, and those of a version the gate refused are not lost.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.learner.database import AttemptRow, Database, VersionEventRow
from burnish.learner.lease import Lease
from burnish.learner.reward import experience
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, record
from sqlalchemy import select, update
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class NotYet:
    """Why no attempt was begun."""

    reason: str


class Attempts:
    """The attempts at one policy, for the holder of its lease."""

    def __init__(self, database: Database, lease: Lease, policy: str) -> None:
        self._database, self._lease, self._policy = database, lease, policy

    def unfinished(self, champion: int) -> Attempt | None:
        """What a killed tick left behind, if it still makes sense under this champion."""
        with self._database.read() as session:
            query = (
                select(AttemptRow)
                .where(
                    AttemptRow.policy == self._policy,
                    AttemptRow.state.in_(["training", "registered"]),
                )
                .order_by(AttemptRow.started_at.desc())
            )
            left = [Attempt.of(row) for row in session.scalars(query)]
        for attempt in left:
            if champion in (attempt.parent, attempt.version):
                log.info("taking up attempt %s, which was left in %s", attempt.id, attempt.state)
                return attempt
            self.abandon(attempt)
        return None

    def begin(self, champion: int, settings: LearnerSettings) -> Attempt | NotYet:
        """A new attempt on top of the champion, if enough was said since the last one."""
        with self._database.write() as session:
            self._lease.fence(session)
            mark, tried = _marks(session, self._policy, champion)
            upto = experience.high_water(session, self._policy)
            fresh = experience.new_events(session, self._policy, max(mark, tried), upto)
            if len(fresh) < settings.min_feedback:
                return NotYet(
                    f"{len(fresh)} new judgements since the last update, "
                    f"{settings.min_feedback} make one worth it"
                )
            judged = experience.count(session, self._policy)
            if judged < settings.min_experience:
                return NotYet(
                    f"{judged} judged answers so far, the first update wants "
                    f"{settings.min_experience}"
                )
            row = AttemptRow(
                id=uuid.uuid4().hex,
                policy=self._policy,
                state="training",
                parent=champion,
                high_water=upto,
                started_at=time.time(),
                version=None,
            )
            session.add(row)
            session.flush()
            return Attempt.of(row)

    def events(self, attempt: Attempt) -> list[str]:
        """The judgements that are this attempt's own."""
        with self._database.read() as session:
            mark, _ = _marks(session, self._policy, attempt.parent)
            return experience.new_events(session, self._policy, mark, attempt.high_water)

    def of_version(self, version: int) -> str | None:
        """The id of the attempt that made a version."""
        with self._database.read() as session:
            query = select(AttemptRow.id).where(
                AttemptRow.policy == self._policy, AttemptRow.version == version
            )
            return session.scalars(query).first()

    def registered(self, attempt: Attempt, version: int, events: Sequence[str]) -> None:
        """The version exists: write down what went into it, before any alias names it."""
        with self._database.write() as session:
            self._lease.fence(session)
            for event in events:
                session.merge(VersionEventRow(policy=self._policy, version=version, event=event))
            _set_state(session, attempt, "registered", version)

    def finished(self, attempt: Attempt, version: int, tick: Tick) -> None:
        with self._database.write() as session:
            self._lease.fence(session)
            _set_state(session, attempt, "finished", version)
            record(session, tick)

    def abandon(self, attempt: Attempt) -> None:
        with self._database.write() as session:
            self._lease.fence(session)
            _set_state(session, attempt, "abandoned", attempt.version)

    def still_ours(self) -> None:
        """Raises LeaseLost unless this holder may still write."""
        with self._database.write() as session:
            self._lease.fence(session)

    def note(self, tick: Tick) -> None:
        """A line about no attempt at all."""
        with self._database.write() as session:
            self._lease.fence(session)
            record(session, tick)


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
