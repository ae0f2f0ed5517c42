"""Judgements that were accepted while the shared ledger was away: a table of the spool's file.

Every statement runs inside the spool's transactions; nothing commits here.
"""

import sqlite3
from collections.abc import Iterable

from burnish.feedback.events import FeedbackEvent, RetractionEvent

_KINDS = {kind.type: kind for kind in (FeedbackEvent, RetractionEvent)}


def create(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS unshared"
        " (seq INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, body TEXT NOT NULL)"
    )


def add(db: sqlite3.Connection, event: FeedbackEvent | RetractionEvent) -> None:
    row = (event.type, event.model_dump_json())
    db.execute("INSERT INTO unshared (type, body) VALUES (?, ?)", row)


def take(db: sqlite3.Connection, n: int) -> list[tuple[int, FeedbackEvent | RetractionEvent]]:
    """The oldest, with the number to forget each by."""
    rows = db.execute("SELECT seq, type, body FROM unshared ORDER BY seq LIMIT ?", (n,)).fetchall()
    return [(seq, _KINDS[kind].model_validate_json(body)) for seq, kind, body in rows]


def forget(db: sqlite3.Connection, seqs: Iterable[int]) -> None:
    db.executemany("DELETE FROM unshared WHERE seq = ?", [(seq,) for seq in seqs])
