"""The requests there are, and what their answers become. Sending them is sync.py's and aio.py's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx2 as httpx
from burnish.serving.client.shapes import (
    Appended,
    Conflict,
    Forbidden,
    Gone,
    Json,
    NotFound,
    Record,
    Refused,
    ServiceError,
    ToolResult,
    Unavailable,
    View,
)

T = TypeVar("T")
_BY_STATUS = {401: Forbidden, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone}


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer becomes."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Json | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def arguments(self) -> Json:
        given = {name: value for name, value in self.params.items() if value is not None}
        return {"json": self.body, "params": given}


class Calls:
    """The requests there are; as functions."""

    @staticmethod
    def append(session: str, events: Sequence[Mapping[str, Any]], user: str | None = None):
        body = {"events": [dict(event) for event in events], **_given(user=user)}
        return Call("POST", f"{_at(session)}/events", _many("events", Appended), body)

    @staticmethod
    def context(session: str, budget: int, query: str | None = None, policy: str | None = None):
        params = {"budget": budget, "query": query, "policy": policy}
        return Call("GET", f"{_at(session)}/context", _one(View), params=params)

    @staticmethod
    def compact(session: str, budget: int, policy: str = "bm25", dry_run: bool = False):
        body = {"budget": budget, "policy": policy, "dry_run": dry_run}
        return Call("POST", f"{_at(session)}/compact", _raw, body)

    @staticmethod
    def expand(session: str, cursors: Sequence[str]):
        return Call("POST", f"{_at(session)}/expand", _raw, {"cursors": list(cursors)})

    @staticmethod
    def stats(session: str):
        return Call("GET", f"{_at(session)}/stats", _raw)

    @staticmethod
    def extract(session: str, user: str | None = None, after: str = "0", dry_run: bool = False):
        body = {"dry_run": dry_run, "after": after, **_given(user=user)}
        return Call("POST", f"{_at(session)}/extract", _raw, body)

    @staticmethod
    def put(record: Mapping[str, Any]):
        return Call("POST", "/records", _one(Record), dict(record))

    @staticmethod
    def correct(record_id: str, changes: Mapping[str, Any], if_version: int | None = None):
        body = {**changes, **_given(if_version=if_version)}
        return Call("PATCH", f"/records/{_name(record_id)}", _one(Record), body)

    @staticmethod
    def get(record_id: str):
        return Call("GET", f"/records/{_name(record_id)}", _one(Record))

    @staticmethod
    def delete(record_id: str):
        return Call("DELETE", f"/records/{_name(record_id)}", _nothing)

    @staticmethod
    def judge(record_id: str, value: float):
        return Call("POST", f"/records/{_name(record_id)}/feedback", _nothing, {"value": value})

    @staticmethod
    def records(limit: int = 50, after: str | None = None, **asked: Any):
        params = {"limit": limit, "after": after, **_words(asked)}
        return Call("GET", "/records", _many("records", Record), params=params)

    @staticmethod
    def search(query: str, limit: int = 10, **asked: Any):
        params = {"query": query, "limit": limit, **_words(asked)}
        return Call("GET", "/records/search", _many("results", Record), params=params)

    @staticmethod
    def find(query: str, session: str | None = None, user: str | None = None, limit: int = 10):
        """Steps of a session, or of all sessions of an end user."""
        path = "/sessions/search" if session is None else f"{_at(session)}/search"
        params = {"query": query, "user": user, "limit": limit}
        return Call("GET", path, _results, params=params)

    @staticmethod
    def forget(**what: Any):
        return Call("POST", "/forget", _raw, _given(**what))

    @staticmethod
    def tool(command: Mapping[str, Any], user: str | None = None):
        body = {"input": dict(command), **_given(user=user)}
        return Call("POST", "/tool", _one(ToolResult), body)


def options_of(url: str, api_key: str | None, options: Json) -> Json:
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    base = f"{url.rstrip('/').removesuffix('/v1')}/v1/memory"
    return {"base_url": base, "headers": headers, "timeout": 30.0, **options}


def read(answer: httpx.Response, call: Call[T]) -> T:
    if not answer.is_success:
        raise error_of(answer)
    return call.read(answer.json() if answer.content else None)


def error_of(answer: httpx.Response) -> ServiceError:
    try:
        told = answer.json()["error"]
        message, code, param = told["message"], told.get("code"), told.get("param")
    except (ValueError, KeyError, TypeError):
        message, code, param = f"the service answered {answer.status_code}", None, None
    busy = answer.status_code == 429 or answer.status_code >= 500
    kind = Unavailable if busy else _BY_STATUS.get(answer.status_code, Refused)
    wait = answer.headers.get("retry-after", "")
    after = float(wait) if wait.isdigit() else None
    return kind(message, code=code, param=param, retry_after=after)


def away(error: httpx.TransportError) -> Unavailable:
    return Unavailable(f"no answer from the service ({error or type(error).__name__})")


def _one(kind: type[T]) -> Callable[[Any], T]:
    """Fields that a newer service adds are left aside."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return lambda row: kind(**{name: row[name] for name in row if name in known})


def _many(name: str, kind: type[T]) -> Callable[[Any], list[T]]:
    read = _one(kind)
    return lambda page: [read(row) for row in page[name]]


def _results(answer: Any) -> list[Json]:
    return answer["results"]


def _raw(answer: Any) -> Json:
    return answer


def _nothing(_: Any) -> None:
    return None


def _at(session: str) -> str:
    return f"/sessions/{_name(session)}"


def _name(text: str) -> str:
    return quote(text, safe="")


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _words(asked: Mapping[str, Any]) -> Json:
    """Filters as query parameters: user, session_id, subject, predicate, as_of, ..."""
    return {k: str(v).lower() if isinstance(v, bool) else v for k, v in asked.items()}
