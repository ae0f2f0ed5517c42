"""A step: one message, tool call or tool result.

`parse` turns what a client sent into a `StepDraft`; the log gives it a cursor and it
becomes a `Step`. Content parts are joined to text; images and audio are refused.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s
from typing import Any

from burnish.memory.errors import BadCursor, BadStep, TooLarge
from burnish.memory.sessions.rules import rules

RULE = "rule"  # why a step is pinned in which a person states one
ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_CONTENT = 256 * 1024
MAX_CALLS = 64
MAX_USER = 1024  # bytes of an end user's name: 256 characters, of four bytes at most
LATEST = 253_402_300_799.0  # seconds since 1970: the end of the year 9999
_FIELDS = {"id", "role", "content", "kind", "name", "tool_calls", "tool_call_id", "pinned", "at"}
# What a completion's message has besides: not kept, as what was thought belongs to its answer.
_PASSED_OVER = {"refusal", "annotations", "reasoning", "reasoning_content"}
_NOT_TEXT = {"audio", "function_call"}
# Names and kinds are printed in a quote's provenance line, so they stay plain words.
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class StepDraft:
    """A step as a client sends it; the id makes sending it again harmless."""

    id: str
    role: str
    content: str
    kind: str = "message"
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    pinned: bool = False
    at: float | None = None  # when it was said, in seconds since 1970; by default when it came

    @property
    def text(self) -> str:
        """All that the model would read: the content and the calls made."""
        calls = [json.dumps(call, ensure_ascii=False) for call in self.tool_calls]
        return "\n".join(([self.content] if self.content else []) + calls)

    @property
    def call_ids(self) -> list[str]:
        return [call["id"] for call in self.tool_calls]

    @property
    def digest(self) -> str:
        whole = [self.role, self.content, self.kind, self.name, self.tool_calls]
        whole += [self.tool_call_id, self.pinned]
        return blake2s(json.dumps(whole, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def pin_reason(self) -> str:
        if self.role in ("system", "developer"):
            return "system"
        if self.kind == "task":
            return "task"
        if self.pinned:
            return "user"
        return RULE if self.role == "user" and rules(self.content) else ""


@dataclass(frozen=True, kw_only=True)
class Step(StepDraft):
    """A step in the log. `group` is the call a tool result answers, 0 for none; `version` is
    the session's when the step came."""

    seq: int
    tokens: int
    at: float = 0.0
    group: int = 0
    version: int = 0
    user: str | None = None  # the end user in whose name it was appended

    @property
    def cursor(self) -> str:
        return str(self.seq)

    @property
    def time(self) -> str:
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def message(self) -> dict[str, Any]:
        """The step as a chat message, without provenance."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id:
            message["tool_call_id"] = self.tool_call_id
        return message

    def public(self) -> dict[str, Any]:
        """The step as the log is read over HTTP."""
        facts = {"id": self.id, "cursor": self.cursor, "kind": self.kind}
        shown = {**facts, **self.message(), "tokens": self.tokens, "at": self.time}
        return shown if self.user is None else {**shown, "user": self.user}


def parse(event: Mapping[str, Any]) -> StepDraft:
    """Check one event as a client sent it. Raises BadStep or TooLarge, saying which field."""
    unknown = set(event) - _FIELDS - _PASSED_OVER - {f for f in _NOT_TEXT if event.get(f) is None}
    if unknown:
        raise BadStep(f"unknown field {sorted(unknown)[0]!r} in an event; known: {sorted(_FIELDS)}")
    role = event.get("role")
    if role not in ROLES:
        raise BadStep(f"role must be one of {', '.join(ROLES)}, not {role!r}")
    calls = _calls(event.get("tool_calls") or ())
    answers = event.get("tool_call_id")
    if calls and role != "assistant":
        raise BadStep("only an assistant step can carry tool_calls")
    if (role == "tool") != (answers is not None):
        raise BadStep("tool_call_id belongs to a step of role 'tool', and such a step needs it")
    kind = "tool_call" if calls else "tool_result" if answers else "message"
    content = _content(event.get("content") or event.get("refusal"))
    if not content and not calls and role != "tool":
        raise BadStep("content is empty")
    return StepDraft(
        id=_id(event.get("id")),
        role=role,
        content=content,
        kind=_word("kind", event.get("kind")) or kind,
        name=_word("name", event.get("name")),
        tool_calls=calls,
        tool_call_id=None if answers is None else _id(answers),
        pinned=event.get("pinned") is True,
        at=_moment(event.get("at")),
    )


def to_json(draft: StepDraft, tokens: int, length: int, now: float, user: str | None = None) -> str:
    """The step as it is stored, in one piece; `length` is its number of terms, for BM25. It is dated
    `now` unless it brings its own time; the log's order is that of arrival, whatever steps say."""
    step: dict[str, Any] = {
        "id": draft.id,
        "role": draft.role,
        "kind": draft.kind,
        "content": draft.content,
        "tokens": tokens,
        "length": length,
        "at": round(now if draft.at is None else draft.at, 3),
    }
    if draft.name:
        step["name"] = draft.name
    if draft.tool_calls:
        step["calls"] = draft.tool_calls
    if draft.tool_call_id:
        step["answers"] = draft.tool_call_id
    if draft.pinned:
        step["pinned"] = True
    if user is not None:
        step["user"] = user
    return json.dumps(step, ensure_ascii=False, separators=(",", ":"))


def from_entry(entry_id: str, fields: Mapping[str, str]) -> Step:
    step = json.loads(fields["step"])
    return Step(
        seq=int(entry_id.partition("-")[0]),
        id=step["id"],
        role=step["role"],
        kind=step["kind"],
        content=step["content"],
        tokens=step["tokens"],
        at=step["at"],
        name=step.get("name"),
        tool_calls=tuple(step.get("calls", ())),
        tool_call_id=step.get("answers"),
        pinned=step.get("pinned", False),
        group=int(fields.get("group", 0)),
        version=int(fields["version"]),
        user=step.get("user"),
    )


def parse_cursor(cursor: object) -> int:
    """A cursor back to its place in the log; 0 stands for "from the start"."""
    text = str(cursor)
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadCursor(f"{text[:40]!r} is not a cursor: use one that events or context returned")
    return int(text)


def clean(field: str, value: object, limit: int) -> str:
    """A text the store can hold: a string, valid Unicode, not above `limit` bytes."""
    if not isinstance(value, str):
        raise BadStep(f"{field} must be a string")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadStep(f"{field} is not valid Unicode (a lone surrogate)") from None
    if size > limit:
        raise TooLarge(f"{field} has {size} bytes; at most {limit} fit: split it")
    return value


def _id(value: object) -> str:
    if value is None:
        return f"step-{uuid.uuid4().hex}"
    text = clean("id", value, 128)
    if not text or not text.isprintable():
        raise BadStep("an id is 1 to 128 printable characters")
    return text


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise BadStep("at must be a number of seconds since 1970, up to the year 9999")
    return float(value)


def _word(field: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise BadStep(f"{field} must be 1 to 64 of A-Z, a-z, 0-9, '_', '.', '-'")
    return value


def _content(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        parts = [p.get("text") if isinstance(p, Mapping) else None for p in value]
        if not all(isinstance(part, str) for part in parts):
            raise BadStep("content parts must be of type text")
        value = "".join(part for part in parts if part)
    return clean("content", value, MAX_CONTENT)


def _calls(value: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(c, Mapping) for c in value):
        raise BadStep("tool_calls must be a list of objects")
    if len(value) > MAX_CALLS:
        raise TooLarge(f"a step holds at most {MAX_CALLS} tool_calls")
    for call in value:
        if not isinstance(call.get("id"), str) or not call["id"]:
            raise BadStep("every tool call needs an id, so that its result can find it")
    if len({call["id"] for call in value}) < len(value):
        raise BadStep("the tool_calls of one step need different ids: a result names one of them")
    calls = tuple(dict(call) for call in value)
    clean("tool_calls", json.dumps(calls, ensure_ascii=False), MAX_CONTENT)
    return calls
