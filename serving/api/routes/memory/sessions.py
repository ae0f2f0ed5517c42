"""/v1/memory/sessions/{id}: a session's events, context, search and stats.

Left out: what changes a view (compaction.py).
"""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.feedback.ranges import Label, Line, Many, Paragraph, Positive, Text, Word
from burnish.memory import MemoryStore, SessionNotFound
from burnish.serving.api.routes.memory.route import Body, Caller, Limit, Route, Time
from fastapi import APIRouter, Depends, Query
from pydantic import Field

Version = Annotated[Positive | None, Query()]


class Event(Body):
    role: Word
    content: Text | Many[dict[str, Any]] | None = None
    kind: Label | None = None
    id: Line | None = None
    name: Label | None = None
    tool_calls: Many[dict[str, Any]] | None = None
    tool_call_id: Line | None = None
    pinned: bool = False
    at: Time | None = None  # when it was said, of imported history
    # What the message of a completion has besides, so that it can be appended as it is.
    refusal: Text | None = None
    annotations: Many[dict[str, Any]] | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    audio: None = None
    function_call: None = None


class Events(Body):
    events: Many[Event] = Field(min_length=1)
    user: Label | None = None


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(prefix="/sessions/{session_id:path}", route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/events", status_code=201)
    async def append(
        session_id: Line,
        body: Events,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        events = [event.model_dump(exclude_none=True) for event in body.events]
        return {"events": await store.append(who.tenant, session_id, events, user=body.user)}

    @api.get("/events")
    async def read(
        session_id: Line,
        after: Label = "0",
        limit: Limit = 100,
        version: Version = None,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """The log; with `version`, as it was when the session was at that version."""
        events = await store.read(who.tenant, session_id, after, limit, version=version)
        return {"events": events}

    @api.get("/context")
    async def context(
        session_id: Line,
        budget: Annotated[Positive, Query()],
        query: Paragraph | None = None,
        policy: Label | None = None,
        version: Version = None,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
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

    @api.get("/search")
    async def search(
        session_id: Line,
        query: Paragraph,
        limit: Limit = 10,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return {"results": await store.search(who.tenant, session_id, query, limit)}

    @api.get("/stats")
    async def stats(
        session_id: Line,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return await store.stats(who.tenant, session_id)

    return api
