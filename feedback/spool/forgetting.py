"""What the spool's file holds of people who were erased: found, and deleted.

Every statement runs inside the spool's transactions; nothing commits here. Left out: writing the file
anew, without which SQLite keeps what was deleted on free pages (spool.py).
"""

import sqlite3
from collections.abc import Mapping

from burnish.feedback.stream.user_keys import pseudonym
from pydantic import AwareDatetime, BaseModel, ValidationError

Erased = Mapping[str, float]  # pseudonym -> until when, in seconds since the epoch

_TABLE = "CREATE TABLE IF NOT EXISTS forgotten (until REAL NOT NULL)"
_BODIES = (("outbox", "value"), ("refused", "value"), ("unshared", "body"))


class _Said(BaseModel):
    tenant: str
    user: str
    time: AwareDatetime


def create(db: sqlite3.Connection) -> None:
    db.execute(_TABLE)


def forgotten_until(db: sqlite3.Connection) -> float:
    """The time of the last erasure that this file has been cleared by; 0 for none."""
    (until,) = db.execute("SELECT max(until) FROM forgotten").fetchone()
    return until or 0.0


def note(db: sqlite3.Connection, until: float) -> None:
    until = max(until, forgotten_until(db))
    db.execute("DELETE FROM forgotten")
    db.execute("INSERT INTO forgotten VALUES (?)", (until,))


def find(db: sqlite3.Connection, erased: Erased) -> dict[str, list[tuple]]:
    """The keys of their rows, by table."""
    found: dict[str, list[tuple]] = {}
    for table, body in _BODIES:
        rows = db.execute(f"SELECT seq, {body} FROM {table}")
        found[table] = [(seq,) for seq, said in rows if _is_erased(said, erased)]
    rows = db.execute("SELECT tenant, id, user, at FROM ledger WHERE user IS NOT NULL")
    found["ledger"] = [
        (tenant, id)
        for tenant, id, user, at in rows
        if at <= erased.get(pseudonym(tenant, user), -1.0)
    ]
    return found


def delete(db: sqlite3.Connection, found: Mapping[str, list[tuple]]) -> None:
    """The outbox is the spool's own to delete from, for its accounts."""
    for table in ("refused", "unshared"):
        db.executemany(f"DELETE FROM {table} WHERE seq = ?", found[table])
    db.executemany("DELETE FROM ledger WHERE tenant = ? AND id = ?", found["ledger"])


def _is_erased(body: bytes | str, erased: Erased) -> bool:
    try:
        said = _Said.model_validate_json(body)
    except ValidationError:  # nobody's
        return False
    return said.time.timestamp() <= erased.get(pseudonym(said.tenant, said.user), -1.0)
