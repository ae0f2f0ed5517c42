"""Readings and alarms as the experience database keeps them, and which alarms are open.

A reading is kept for each epoch of a version's measure, an alarm from when it opened until it closed and on. Needs
neither torch nor the registry: who only asks what is open pays for that alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from burnish.learner.database import take_turns
from burnish.learner.tables import AlarmReadingRow, AlarmRow
from sqlalchemy import select
from sqlalchemy.orm import Session

KEPT = 200  # readings of one measure of a policy, and closed alarms that are told


@dataclass(frozen=True)
class Alarm:
    """Times in seconds since the epoch. `closed_at` None while it is open; while it is silenced it holds
    nothing back."""

    id: str
    policy: str
    version: int
    name: str
    opened_at: float
    closed_at: float | None
    says: str
    closed_because: str | None = None
    silenced_until: float | None = None
    silenced_by: str | None = None
    silenced_because: str | None = None

    @classmethod
    def of(cls, row: AlarmRow) -> Alarm:
        return cls(**{name: getattr(row, name) for name in cls.__dataclass_fields__})

    @property
    def sentence(self) -> str:
        return f"{self.name} of {self.policy}@{self.version}: {self.says}"

    def is_silenced(self, now: float) -> bool:
        return self.silenced_until is not None and now < self.silenced_until

    def told(self, now: float) -> dict[str, Any]:
        return {**asdict(self), "silenced": self.is_silenced(now)}


def open_alarms(session: Session, policy: str, version: int | None = None) -> list[Alarm]:
    """The open alarms of a policy, or of one version of it, the oldest first; silenced ones too."""
    query = select(AlarmRow).where(AlarmRow.policy == policy, AlarmRow.closed_at.is_(None))
    if version is not None:
        query = query.where(AlarmRow.version == version)
    return [Alarm.of(row) for row in session.scalars(query.order_by(AlarmRow.opened_at))]


def holding(session: Session, policy: str, now: float, version: int | None = None) -> list[Alarm]:
    """Those that hold promotion back: open, and not silenced."""
    return [a for a in open_alarms(session, policy, version) if not a.is_silenced(now)]


def alarms(session: Session, policy: str, limit: int = KEPT) -> list[Alarm]:
    """All alarms of a policy, the newest first."""
    query = (
        select(AlarmRow)
        .where(AlarmRow.policy == policy)
        .order_by(AlarmRow.opened_at.desc())
        .limit(limit)
    )
    return [Alarm.of(row) for row in session.scalars(query)]


def readings(session: Session, policy: str, limit: int = KEPT) -> list[AlarmReadingRow]:
    """The latest readings of a policy, the newest first."""
    query = (
        select(AlarmReadingRow)
        .where(AlarmReadingRow.policy == policy)
        .order_by(AlarmReadingRow.at.desc(), AlarmReadingRow.since.desc(), AlarmReadingRow.name)
        .limit(limit)
    )
    return list(session.scalars(query))


def epoch_of(session: Session, policy: str, version: int, name: str) -> float:
    """When the present epoch of a version's measure began; 0 for the first."""
    query = (
        select(AlarmReadingRow)
        .where(
            AlarmReadingRow.policy == policy,
            AlarmReadingRow.version == version,
            AlarmReadingRow.name == name,
        )
        .order_by(AlarmReadingRow.since.desc())
        .limit(1)
    )
    row = session.scalars(query).first()
    if row is None:
        return 0.0
    return row.until if row.whole else row.since


def keep(session: Session, row: AlarmReadingRow, *, opens: bool) -> None:
    """Keep one reading, and open or close its alarm by it."""
    take_turns(session)
    session.merge(row)
    current = _open_row(session, row.policy, row.version, row.name)
    if opens and current is None:
        session.add(
            AlarmRow(
                id=f"alarm-{uuid.uuid4().hex[:12]}",
                policy=row.policy,
                version=row.version,
                name=row.name,
                opened_at=row.at,
                says=row.says,
            )
        )
    elif current is not None and not opens:
        current.closed_at, current.closed_because = row.at, row.says
    elif current is not None and row.state == "open":
        current.says = row.says
    session.flush()
    _forget_old(session, row.policy, row.name)


def close_others(session: Session, policy: str, watched: Collection[int], now: float) -> None:
    """Close the alarms of versions that serve no longer."""
    take_turns(session)
    query = select(AlarmRow).where(AlarmRow.policy == policy, AlarmRow.closed_at.is_(None))
    for row in session.scalars(query):
        if row.version not in watched:
            row.closed_at, row.closed_because = now, f"version {row.version} serves no longer"


def silence(session: Session, id: str, *, until: float, who: str, why: str) -> Alarm | None:
    """Let an open alarm hold nothing back until that time; None where it is not known, or closed."""
    row = session.get(AlarmRow, id)
    if row is None or row.closed_at is not None:
        return None
    row.silenced_until, row.silenced_by, row.silenced_because = until, who, why
    return Alarm.of(row)


def _open_row(session: Session, policy: str, version: int, name: str) -> AlarmRow | None:
    query = select(AlarmRow).where(
        AlarmRow.policy == policy,
        AlarmRow.version == version,
        AlarmRow.name == name,
        AlarmRow.closed_at.is_(None),
    )
    return session.scalars(query).first()


def _forget_old(session: Session, policy: str, name: str) -> None:
    query = (
        select(AlarmReadingRow)
        .where(AlarmReadingRow.policy == policy, AlarmReadingRow.name == name)
        .order_by(AlarmReadingRow.at.desc())
        .offset(KEPT)
    )
    old: Sequence[AlarmReadingRow] = session.scalars(query).all()
    for row in old:
        session.delete(row)
