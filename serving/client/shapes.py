"""What the client gives back and what it raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


class ServiceError(Exception):
    """Root of what this client raises; `code` is the service's word for programs."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.retry_after = retry_after


class Refused(ServiceError):
    """The request has to change."""


class Forbidden(ServiceError):
    """The key is missing, wrong, or lacks the scope."""


class NotFound(ServiceError):
    """No such session, record or plan."""


class Conflict(ServiceError):
    """Someone else wrote in between, or the id was used for something else."""


class Gone(ServiceError):
    """Forgotten on request; it does not come back."""


class Unavailable(ServiceError):
    """The service is away, busy or failed: trying again may help."""


@dataclass(frozen=True)
class Appended:
    id: str
    cursor: str
    tokens: int


@dataclass(frozen=True)
class View:
    """`messages` are ready for a chat request, once `cursors` is taken off: see `chat`."""

    messages: Sequence[Json]
    tokens: int
    version: int
    plan: str | None = None
    policy: str | None = None
    fell_back: str | None = None  # why another policy decided than the one asked for
    left_out: Json = field(default_factory=dict)  # how many steps, and why

    @property
    def chat(self) -> list[Json]:
        known = ("role", "content", "name", "tool_calls", "tool_call_id")
        return [{k: v for k, v in shown.items() if k in known} for shown in self.messages]


@dataclass(frozen=True)
class Record:
    """A fact and when it holds, in seconds since 1970; `score` only from a search."""

    id: str
    text: str
    version: int
    valid_from: float
    valid_until: float | None = None
    user: str | None = None
    subject: str | None = None
    predicate: str | None = None
    value: str | None = None
    session_id: str | None = None
    cursors: Sequence[str] = ()
    pinned: bool = False
    expires_at: float | None = None
    supersedes: str | None = None
    superseded_by: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    recalls: int = 0
    recalled_at: float | None = None
    feedback: float = 0.0
    score: float | None = None


@dataclass(frozen=True)
class ToolResult:
    content: str
    is_error: bool
