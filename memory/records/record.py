"""A record: one fact, when it holds, where it comes from, and how useful it was.

`parse` checks what a client sent; `from_row` turns a stored row back. The slot of a
record is its user, subject and predicate: one value at a time. Left out: storing
(records.py, record.lua).
"""

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2s
from typing import Any, TypedDict
from urllib.parse import quote

from burnish.memory.errors import BadStep
from burnish.memory.search.terms import fold
from burnish.memory.sessions.steps import MAX_USER, clean, parse_cursor

MAX_TEXT = 16 * 1024
MAX_VALUE = 4 * 1024
MAX_CURSORS = 256


class Record(TypedDict):
    """Times are seconds since 1970. It holds from `valid_from` until before `valid_until`."""

    id: str
    text: str
    user: str | None
    subject: str | None
    predicate: str | None
    value: str | None
    session_id: str | None
    cursors: list[str]
    pinned: bool
    valid_from: float
    valid_until: float | None
    expires_at: float | None
    supersedes: str | None
    superseded_by: str | None
    created_at: float
    updated_at: float
    version: int
    recalls: int
    recalled_at: float | None
    feedback: float


PUBLIC = tuple(Record.__annotations__)
# What forgetting and updates need besides: the stated end, and the decaying count of recalls.
INNER = (*PUBLIC, "ends", "heat", "heat_at")


@dataclass(frozen=True, kw_only=True)
class RecordDraft:
    """A record as a client sends it, checked."""

    id: str | None
    text: str
    user: str | None = None
    subject: str | None = None
    predicate: str | None = None
    value: str | None = None
    session_id: str | None = None
    cursors: tuple[str, ...] = ()
    valid_from: float | None = None
    valid_until: float | None = None
    expires_at: float | None = None
    pinned: bool = False

    @property
    def slot(self) -> str:
        """The key of its timeline below the records' prefix, '' without a slot. A digest,
        so that no key's name reveals what the record says."""
        if self.subject is None:
            return ""
        return _slot(self.user, normal(self.subject), normal(self.predicate or ""))

    @property
    def slot_with_accents(self) -> str:
        """The slot as earlier versions named it, which may hold a timeline that goes on there."""
        if self.subject is None:
            return ""
        return _slot(self.user, same(self.subject), same(self.predicate or ""))

    @property
    def indexes(self) -> Sequence[str]:
        found = [user_index(self.user)] if self.user else []
        return [*found, session_index(self.session_id)] if self.session_id else found

    def fields(self, now: float) -> dict[str, str]:
        """The row to store, without what the script computes."""
        return {
            "text": self.text,
            "user": self.user or "",
            "subject": self.subject or "",
            "predicate": self.predicate or "",
            "subject_key": normal(self.subject or ""),
            "predicate_key": normal(self.predicate or ""),
            "value": self.value or "",
            "same": same(self.value or self.text),
            "session_id": self.session_id or "",
            "cursors": ",".join(self.cursors),
            "valid_from": _stored(self.valid_from),
            "ends": _stored(self.valid_until),
            "expires_at": _stored(self.expires_at),
            "pinned": "1" if self.pinned else "",
            "created_at": repr(now),
            "updated_at": repr(now),
        }


FIELDS = frozenset(field.name for field in fields(RecordDraft))


@dataclass(frozen=True)
class RecordFilter:
    """Which records a read returns; by default those that hold now.

    `as_of` (seconds since 1970) asks for what held then; `include_superseded` for every
    value a slot ever had. What has expired is not shown, unless it is asked for too.
    """

    user: str | None = None
    session_id: str | None = None
    subject: str | None = None
    predicate: str | None = None
    as_of: float | None = None
    include_superseded: bool = False
    include_expired: bool = False

    def admits(self, record: Record, now: float) -> bool:
        """Whether the record passes, at the time `now`."""
        expires = record["expires_at"]
        if expires is not None and expires <= now and not self.include_expired:
            return False
        for name in ("user", "session_id"):
            if getattr(self, name) is not None and getattr(self, name) != record[name]:
                return False
        for name in ("subject", "predicate"):
            wanted = getattr(self, name)
            if wanted is not None and normal(wanted) != normal(record[name] or ""):
                return False
        if self.include_superseded:
            return True
        at = now if self.as_of is None else self.as_of
        until = math.inf if record["valid_until"] is None else record["valid_until"]
        return record["valid_from"] <= at < until


def parse(record: Mapping[str, Any], now: float) -> RecordDraft:
    """Check a record as a client sent it. Raises BadStep or TooLarge, naming the field."""
    unknown = set(record) - FIELDS
    if unknown:
        raise BadStep(f"unknown field {sorted(unknown)[0]!r} in a record; known: {sorted(FIELDS)}")
    subject, predicate = label("subject", record.get("subject")), record.get("predicate")
    if (subject is None) != (predicate is None):
        raise BadStep("subject and predicate name a slot together: send both or neither")
    predicate = label("predicate", predicate)
    value = record.get("value")
    if value is not None:
        value = clean("value", value, MAX_VALUE).strip()
        if not value or subject is None:
            raise BadStep("a value is not empty and needs a subject and a predicate")
    text = record.get("text")
    if text is None and value is not None:
        text = f"{subject} {predicate}: {value}"
    text = clean("text", text, MAX_TEXT)
    if not text.strip():
        raise BadStep("text is empty")
    cursors = record.get("cursors") or ()
    if isinstance(cursors, str) or not isinstance(cursors, Sequence) or len(cursors) > MAX_CURSORS:
        raise BadStep(f"cursors must be a list of at most {MAX_CURSORS} cursors")
    valid_from = _timestamp("valid_from", record.get("valid_from"))
    valid_until = _timestamp("valid_until", record.get("valid_until"))
    if valid_until is not None and valid_until <= (now if valid_from is None else valid_from):
        raise BadStep("valid_until must be later than valid_from (by default: now)")
    return RecordDraft(
        id=label("id", record.get("id")),
        text=text,
        user=label("user", record.get("user"), MAX_USER),
        subject=subject,
        predicate=predicate,
        value=value,
        session_id=label("session_id", record.get("session_id"), 256),
        cursors=tuple(str(parse_cursor(cursor)) for cursor in cursors),
        valid_from=valid_from,
        valid_until=valid_until,
        expires_at=_timestamp("expires_at", record.get("expires_at")),
        pinned=record.get("pinned") is True,
    )


def from_row(row: Sequence[str | None]) -> Record:
    """A stored row, its fields in the order of PUBLIC, or of INNER with those after it."""
    raw = {name: value or None for name, value in zip(PUBLIC, row, strict=False)}
    record: Any = dict(raw)
    record["cursors"] = (raw["cursors"] or "").split(",") if raw["cursors"] else []
    record["pinned"] = raw["pinned"] == "1"
    for name in ("valid_from", "valid_until", "expires_at", "created_at", "updated_at"):
        record[name] = None if raw[name] is None else float(raw[name] or 0)
    record["recalled_at"] = None if raw["recalled_at"] is None else float(raw["recalled_at"] or 0)
    record["version"] = int(raw["version"] or 0)
    record["recalls"] = int(raw["recalls"] or 0)
    record["feedback"] = float(raw["feedback"] or 0)
    return record


def normal(text: str) -> str:
    """What makes two names the same: folded (search/terms.py), no runs of space, no final stop."""
    return same(fold(text))


def same(text: str) -> str:
    """What makes two values the same: no case, no runs of space, no final stop; accents count, as
    a person may correct just these."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!")


def _slot(user: str | None, subject: str, predicate: str) -> str:
    names = json.dumps([user, subject, predicate])
    return "slot:" + blake2s(names.encode(), digest_size=16).hexdigest()


def label(name: str, value: object, limit: int = 128) -> str | None:
    """A short printable name. Raises BadStep."""
    if value is None:
        return None
    text = clean(name, value, limit)
    if not text.strip() or not text.isprintable():
        raise BadStep(f"{name} must be 1 to {limit} printable characters")
    return text


def user_index(user: str) -> str:
    return "user:" + quote(user, safe="")


def session_index(session: str) -> str:
    return "session:" + quote(session, safe="")


def _timestamp(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadStep(f"{name} must be a number of seconds since 1970")
    return float(value)


def _stored(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds)
