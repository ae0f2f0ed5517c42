"""/v1/memory: a session's events, context, search and stats.

What changes a view (compact, pin, delete, undo) is in compaction.py, records in records.py.

A thin face over `burnish.memory`: pydantic checks the shapes, the room itself checks the
content, and its errors become OpenAI-shaped 4xx answers. The tenant is the API key's;
no request can name one.
"""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.memory import MemoryStore, SessionNotFound
from burnish.serving.api.routes import compaction, memory_tool, records
from burnish.serving.api.routes.memory_route import Asker, Body, Limit, Route
from fastapi import APIRouter, Depends, Query
from pydantic import Field

Version = Annotated[int | None, Query(ge=1)]


class Event(Body):
    role: str
    content: str | list[dict[str, Any]] | None = None
    kind: str | None = None
    id: str | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    pinned: bool = False


class Events(Body):
    events: list[Event] = Field(min_length=1)
    user: str | None = None


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives an `Asker` and has checked the scope."""
    api = APIRouter(prefix="/v1/memory", tags=["memory"], route_class=Route)
    asked_store, asker = Depends(get_store), Depends(auth)

    @api.post("/sessions/{session_id}/events", status_code=201)
    async def append(
        session_id: str,
        body: Events,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        events = [event.model_dump(exclude_none=True) for event in body.events]
        return {"events": await store.append(who.tenant, session_id, events, user=body.user)}

    @api.get("/sessions/{session_id}/events")
    async def read(
        session_id: str,
        after: str = "0",
        limit: Limit = 100,
        version: Version = None,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        """The log; with `version`, as it was when the session was at that version."""
        events = await store.read(who.tenant, session_id, after, limit, version=version)
        return {"events": events}

    @api.get("/sessions/{session_id}/context")
    async def context(
        session_id: str,
        budget: Annotated[int, Query(ge=1)],
        query: str | None = None,
        policy: str | None = None,
        version: Version = None,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        """The view; with `policy` as that one decides it now, with `version` as it was then.

        A session that has outgrown the budget is compacted in the background, for the next time.
        """
        view = await store.context(
            who.tenant, session_id, budget, query, policy=policy, version=version
        )
        if view["version"] == 0:
            raise SessionNotFound(f"no session {session_id!r}: append a step to begin it")
        if policy is None and version is None:
            store.background.schedule(who.tenant, session_id, budget)
        return view

    @api.get("/sessions/{session_id}/search")
    async def search(
        session_id: str,
        query: str,
        limit: Limit = 10,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        return {"results": await store.search(who.tenant, session_id, query, limit)}

    @api.get("/sessions/{session_id}/stats")
    async def stats(
        session_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        return await store.stats(who.tenant, session_id)

    api.include_router(compaction.router(get_store, auth))
    api.include_router(records.router(get_store, auth))
    api.include_router(memory_tool.router(get_store, auth))
    return api
