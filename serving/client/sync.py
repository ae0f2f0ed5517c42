"""`Memory`: the client for synchronous code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx2 as httpx
from burnish.serving.client.calls import Call, Calls, away, error_of, options_of, read
from burnish.serving.client.shapes import Appended, Json, Record, ToolResult, View

T = TypeVar("T")


class Memory:
    """Synchronous. `session`, `record_id`, ... are plain names; the key decides the tenant."""

    def __init__(self, url: str, api_key: str | None = None, **options: Any) -> None:
        self._http = httpx.Client(**options_of(url, api_key, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Any of `Calls`; the methods below are these, sent. Raises ServiceError."""
        try:
            answer = self._http.request(call.method, call.path, **call.arguments())
        except httpx.TransportError as error:
            raise away(error) from error
        return read(answer, call)

    def append(
        self, session: str, events: Sequence[Mapping[str, Any]], *, user: str | None = None
    ) -> list[Appended]:
        return self.send(Calls.append(session, events, user))

    def context(
        self, session: str, budget: int, query: str | None = None, *, policy: str | None = None
    ) -> View:
        return self.send(Calls.context(session, budget, query, policy))

    def compact(
        self, session: str, budget: int, policy: str = "bm25", *, dry_run: bool = False
    ) -> Json:
        return self.send(Calls.compact(session, budget, policy, dry_run))

    def expand(self, session: str, cursors: Sequence[str]) -> Json:
        return self.send(Calls.expand(session, cursors))

    def stats(self, session: str) -> Json:
        return self.send(Calls.stats(session))

    def extract(
        self, session: str, *, user: str | None = None, after: str = "0", dry_run: bool = False
    ) -> Json:
        """Facts stated behind the cursor `after` become records; `cursor` is where it ended."""
        return self.send(Calls.extract(session, user, after, dry_run))

    def put(self, **record: Any) -> Record:
        return self.send(Calls.put(record))

    def correct(self, record_id: str, *, if_version: int | None = None, **changes: Any) -> Record:
        return self.send(Calls.correct(record_id, changes, if_version))

    def get(self, record_id: str) -> Record:
        return self.send(Calls.get(record_id))

    def delete(self, record_id: str) -> None:
        self.send(Calls.delete(record_id))

    def judge(self, record_id: str, value: float) -> None:
        self.send(Calls.judge(record_id, value))

    def records(self, *, limit: int = 50, after: str | None = None, **asked: Any) -> list[Record]:
        return self.send(Calls.records(limit, after, **asked))

    def search(self, query: str, *, limit: int = 10, **asked: Any) -> list[Record]:
        return self.send(Calls.search(query, limit, **asked))

    def find(
        self,
        query: str,
        session: str | None = None,
        *,
        user: str | None = None,
        limit: int = 10,
    ) -> list[Json]:
        """Steps of a session, or of all sessions of an end user."""
        return self.send(Calls.find(query, session, user, limit))

    def forget(self, **what: Any) -> Json:
        return self.send(Calls.forget(**what))

    def tool(self, command: Mapping[str, Any], *, user: str | None = None) -> ToolResult:
        return self.send(Calls.tool(command, user))

    def export(self, user: str) -> Iterator[Json]:
        """Everything kept about an end user, an object at a time."""
        try:
            with self._http.stream("GET", "/export", params={"user": user}) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                for line in answer.iter_lines():
                    yield json.loads(line)
        except httpx.TransportError as error:
            raise away(error) from error
