"""A judged answer as other programs keep it: what every import format is read into.

A row that cannot be read is a `BrokenRow`, told with its place; the rows around it are read all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RowError(ValueError):
    """A row that cannot be read; the message names the field."""


@dataclass(frozen=True)
class Opinion:
    """One judgement: `name` and `value` as in the feedback API."""

    name: str
    value: float | str
    rationale: str | None = None
    user: str | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class Turn:
    """One answer to a chat. `id` is the source's own, so that importing twice counts once."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    answer: str
    at: datetime
    opinions: Sequence[Opinion] = ()
    tools: Sequence[Mapping[str, Any]] | None = None
    user: str | None = None
    session: str | None = None
    model: str | None = None
    family: str = field(default="imported", compare=False)  # names it where a template refuses it


@dataclass(frozen=True)
class BrokenRow:
    """A row that was passed over; as text `FILE row N: WHY`."""

    file: str
    row: int
    why: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.why}"


def text_of(content: Any, where: str) -> str:
    """The text of a message's content: a string, or OpenAI's list of parts. Raises RowError."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, Mapping))
    raise RowError(f"{where}: a text is needed, not {content!r:.60}")


def chat_of(value: Any, where: str) -> list[Mapping[str, Any]]:
    """A list of messages, each with a role. Raises RowError."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise RowError(f"{where}: a list of messages is needed, not {value!r:.60}")
    for number, message in enumerate(value):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise RowError(f"{where}.{number}: a message needs a role")
    return value


def moment_of(value: Any, where: str) -> datetime:
    """Seconds, milliseconds or nanoseconds since 1970, or an ISO time; UTC if no zone is given."""
    if value is None:
        return EPOCH
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read if read.tzinfo else read.replace(tzinfo=UTC)
        seconds = float(value)
        while seconds > 1e11:  # the year 5138 in seconds
            seconds /= 1000
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise RowError(f"{where}: no time: {value!r:.60}") from error
