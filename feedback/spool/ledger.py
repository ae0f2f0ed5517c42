"""The feedback ledger: the tables behind "idempotent by id" and "the last write wins".

One row per feedback id, in one of three states: it `stands`, it was `superseded` by a later
judgement in the same place (judgements.py says which that is), or it was `retracted`, until it is
given again. What is entered gets a time after whatever it replaces here, even if the clock was set
back, so that the readers of the stream, who go by those times, agree with the order of arrival.
Other servers have ledgers of their own: between them their clocks decide (where they do not share one,
shared_ledger.py), and what says nothing new here may do so there, so it is published all the same. Every
statement runs inside the spool's transactions; nothing commits here.
"""

import sqlite3
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from burnish.feedback.events import FeedbackEvent, RetractionEvent, later

State = Literal["stands", "superseded", "retracted"]
Status = Literal["stored", "unchanged", "replaced"]

_TABLES = """
CREATE TABLE IF NOT EXISTS ledger (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    target TEXT,
    choice INTEGER,
    user TEXT,
    name TEXT,
    body TEXT,
    at REAL NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_by_place ON ledger (tenant, target, choice, name, user);
DROP INDEX IF EXISTS ledger_by_target;
CREATE INDEX IF NOT EXISTS ledger_by_age ON ledger (at);
"""
_DAY_S = 86400.0
# SQLite takes the primary key otherwise, and looks through all that a tenant ever said.
_BY_PLACE = "INDEXED BY ledger_by_place"
UNSAID = {"time", "revision", "key_id"}  # may differ where the same judgement is heard again


@dataclass(frozen=True)
class LedgerRow:
    event: FeedbackEvent
    state: State


class Ledger:
    def __init__(self, keep_days: float) -> None:
        self._keep_s = keep_days * _DAY_S

    def create(self, db: sqlite3.Connection) -> None:
        db.executescript(_TABLES)

    def judge(self, db: sqlite3.Connection, event: FeedbackEvent) -> tuple[FeedbackEvent, Status]:
        """Enter a judgement. Returns it as it stands now, and what that meant."""
        found = db.execute(
            "SELECT state, body FROM ledger WHERE tenant = ? AND id = ?", (event.tenant, event.id)
        ).fetchone()
        event = event.accepted(later(event.time, self._last(db, event)))
        status: Status = "stored"
        if found is not None and found[0] != "retracted":
            known = FeedbackEvent.model_validate_json(found[1])
            status = "replaced"
            if _said(known) == _said(event):
                # The same word, not a new one; but it is the last again.
                event, status = event.model_copy(update={"revision": known.revision}), "unchanged"
        self._put(db, event)
        return event, status

    def retract(
        self, db: sqlite3.Connection, event: RetractionEvent
    ) -> tuple[RetractionEvent, Status]:
        """Take back what stands under an id, here or on another server."""
        place = (event.tenant, event.feedback_id)
        found = db.execute(
            "SELECT state, at FROM ledger WHERE tenant = ? AND id = ?", place
        ).fetchone()
        if found is not None:
            event = event.model_copy(update={"time": later(event.time, _time(found[1]))})
        self._put(db, event)
        return event, "unchanged" if found is not None and found[0] == "retracted" else "stored"

    def enter(self, db: sqlite3.Connection, event: FeedbackEvent | RetractionEvent) -> None:
        """Note what the shared ledger has decided, for while it cannot be asked."""
        about = event.id if isinstance(event, FeedbackEvent) else event.feedback_id
        (later,) = db.execute(
            "SELECT count(*) FROM ledger WHERE tenant = ? AND id = ? AND at > ?",
            (event.tenant, about, event.time.timestamp()),
        ).fetchone()
        if not later:
            self._put(db, event)

    def _put(self, db: sqlite3.Connection, event: FeedbackEvent | RetractionEvent) -> None:
        if isinstance(event, RetractionEvent):
            db.execute(
                "INSERT INTO ledger (tenant, id, state, at) VALUES (?, ?, 'retracted', ?)"
                " ON CONFLICT (tenant, id) DO UPDATE SET state = 'retracted', at = excluded.at",
                (event.tenant, event.feedback_id, event.time.timestamp()),
            )
            return
        db.execute(
            f"UPDATE ledger {_BY_PLACE} SET state = 'superseded' WHERE tenant = ? AND target = ?"
            " AND choice = ? AND user IS ? AND name = ? AND state = 'stands'",
            event.place,
        )
        db.execute(
            "INSERT OR REPLACE INTO ledger (tenant, target, choice, user, name, id, state, body, at)"
            " VALUES (?, ?, ?, ?, ?, ?, 'stands', ?, ?)",
            (*event.place, event.id, event.model_dump_json(), event.time.timestamp()),
        )

    def _last(self, db: sqlite3.Connection, event: FeedbackEvent) -> datetime | None:
        """When the last of what `event` replaces was accepted: under its id, and in its place."""
        (at,) = db.execute(
            "SELECT max(at) FROM (SELECT at FROM ledger WHERE tenant = ? AND id = ? UNION ALL"
            f" SELECT at FROM ledger {_BY_PLACE} WHERE tenant = ? AND target = ? AND choice = ? AND user IS ?"
            " AND name = ?)",
            (event.tenant, event.id, *event.place),
        ).fetchone()
        return None if at is None else _time(at)

    def find(self, db: sqlite3.Connection, tenant: str, feedback_id: str) -> LedgerRow | None:
        row = db.execute(
            "SELECT state, body FROM ledger WHERE tenant = ? AND id = ? AND body IS NOT NULL",
            (tenant, feedback_id),
        ).fetchone()
        return LedgerRow(FeedbackEvent.model_validate_json(row[1]), row[0]) if row else None

    def on(self, db: sqlite3.Connection, tenant: str, target: str) -> list[FeedbackEvent]:
        """The judgements that stand on an interaction or session, oldest first."""
        rows = db.execute(
            f"SELECT body FROM ledger {_BY_PLACE} WHERE tenant = ? AND target = ? AND state = 'stands'"
            " ORDER BY at, id",
            (tenant, target),
        )
        return [FeedbackEvent.model_validate_json(body) for (body,) in rows.fetchall()]

    def prune(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM ledger WHERE at < ?", (time.time() - self._keep_s,))


def _said(event: FeedbackEvent) -> dict[str, object]:
    return event.model_dump(exclude=UNSAID)


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
