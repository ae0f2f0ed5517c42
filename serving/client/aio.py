"""`AsyncMemory`: the client over asyncio, method for method as sync.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import httpx2 as httpx
from burnish.serving.client.calls import Call, Calls, away, error_of, options_of, read
from burnish.serving.client.shapes import Appended, Json, Record, ToolResult, View

T = TypeVar("T")


class AsyncMemory:
    """The same over asyncio."""

    def __init__(self, url: str, api_key: str | None = None, **options: Any) -> None:
        self._http = httpx.AsyncClient(**options_of(url, api_key, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Any of `Calls`; the methods below are these, sent. Raises ServiceError."""
        try:
            answer = await self._http.request(call.method, call.path, **call.arguments())
        except httpx.TransportError as error:
            raise away(error) from error
        return read(answer, call)

    async def append(
        self, session: str, events: Sequence[Mapping[str, Any]], *, user: str | None = None
    ) -> list[Appended]:
        return await self.send(Calls.append(session, events, user))

    async def context(
        self, session: str, budget: int, query: str | None = None, *, policy: str | None = None
    ) -> View:
        return await self.send(Calls.context(session, budget, query, policy))

    async def compact(
        self, session: str, budget: int, policy: str = "bm25", *, dry_run: bool = False
    ) -> Json:
        return await self.send(Calls.compact(session, budget, policy, dry_run))

    async def expand(self, session: str, cursors: Sequence[str]) -> Json:
        return await self.send(Calls.expand(session, cursors))

    async def stats(self, session: str) -> Json:
        return await self.send(Calls.stats(session))

    async def extract(
        self, session: str, *, user: str | None = None, after: str = "0", dry_run: bool = False
    ) -> Json:
        """Facts stated behind the cursor `after` become records; `cursor` is where it ended."""
        return await self.send(Calls.extract(session, user, after, dry_run))

    async def put(self, **record: Any) -> Record:
        return await self.send(Calls.put(record))

    async def correct(
        self, record_id: str, *, if_version: int | None = None, **changes: Any
    ) -> Record:
        return await self.send(Calls.correct(record_id, changes, if_version))

    async def get(self, record_id: str) -> Record:
        return await self.send(Calls.get(record_id))

    async def delete(self, record_id: str) -> None:
        await self.send(Calls.delete(record_id))

    async def judge(self, record_id: str, value: float) -> None:
        await self.send(Calls.judge(record_id, value))

    async def records(
        self, *, limit: int = 50, after: str | None = None, **asked: Any
    ) -> list[Record]:
        return await self.send(Calls.records(limit, after, **asked))

    async def search(self, query: str, *, limit: int = 10, **asked: Any) -> list[Record]:
        return await self.send(Calls.search(query, limit, **asked))

    async def find(
        self,
        query: str,
        session: str | None = None,
        *,
        user: str | None = None,
        limit: int = 10,
    ) -> list[Json]:
        """Steps of a session, or of all sessions of an end user."""
        return await self.send(Calls.find(query, session, user, limit))

    async def forget(self, **what: Any) -> Json:
        return await self.send(Calls.forget(**what))

    async def tool(self, command: Mapping[str, Any], *, user: str | None = None) -> ToolResult:
        return await self.send(Calls.tool(command, user))

    async def export(self, user: str) -> AsyncIterator[Json]:
        """Everything kept about an end user, an object at a time."""
        try:
            async with self._http.stream("GET", "/export", params={"user": user}) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise error_of(answer)
                async for line in answer.aiter_lines():
                    yield json.loads(line)
        except httpx.TransportError as error:
            raise away(error) from error
