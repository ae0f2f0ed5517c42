"""/v1/memory/sessions/{id}: what changes a view, and what was changed.

compact, revert, expand, compactions; pin, pins, delete, undo, changes. Nothing here rewrites the log.
"""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.feedback.ranges import Duration, Few, Label, Line, Paragraph, Positive
from burnish.memory import DELETION_GRACE, MemoryStore
from burnish.serving.api.routes.memory.route import Body, Caller, Limit, Route
from fastapi import APIRouter, Depends
from pydantic import Field, model_validator


class Compact(Body):
    policy: Label = "bm25"
    budget: Positive
    query: Paragraph | None = None
    dry_run: bool = False
    version: Positive | None = None


class Revert(Body):
    """Without `plan` the one before; "" takes every compaction out of the view."""

    plan: Label | None = None


class Expand(Body):
    """A summary node, or single steps; not both."""

    node: Label | None = None
    cursors: Few[Label] | None = Field(default=None, min_length=1)
    after: Label = "0"
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @model_validator(mode="after")
    def _one_target(self) -> "Expand":
        if (self.node is None) == (self.cursors is None):
            raise ValueError("name either node or cursors")
        return self


class Pin(Body):
    cursor: Label
    pinned: bool = True


class Delete(Body):
    cursors: Few[Label] = Field(min_length=1)
    grace_s: Duration = DELETION_GRACE


class Undo(Body):
    version: Positive | None = None


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(prefix="/sessions/{session_id:path}", route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/compact")
    async def compact(
        session_id: Line, body: Compact, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """Tokens before and after, and what leaves with its reason; in force unless `dry_run`."""
        done = await store.compaction.compact(
            who.tenant,
            session_id,
            body.policy,
            body.budget,
            query=body.query,
            dry_run=body.dry_run,
            version=body.version,
        )
        return done.public()

    @api.get("/compactions")
    async def compactions(
        session_id: Line, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """The plans made, newest first: what was saved, when, by which policy."""
        return {"compactions": await store.compaction.plans(who.tenant, session_id)}

    @api.get("/compactions/{plan}")
    async def compaction(
        session_id: Line,
        plan: Label,
        after: Label = "0",
        limit: Limit = 100,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """One plan, with its verdict, score and reason for each step it looked at."""
        return await store.compaction.decisions(who.tenant, session_id, plan, after, limit)

    @api.post("/revert")
    async def revert(
        session_id: Line, body: Revert, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        return await store.compaction.revert(who.tenant, session_id, body.plan)

    @api.post("/expand")
    async def expand(
        session_id: Line, body: Expand, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        return await store.compaction.expand(
            who.tenant,
            session_id,
            node=body.node,
            cursors=body.cursors or (),
            after=body.after,
            limit=body.limit,
        )

    @api.post("/pin")
    async def pin(
        session_id: Line, body: Pin, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        version = await store.changes.pin(who.tenant, session_id, body.cursor, body.pinned)
        return {"cursor": body.cursor, "pinned": body.pinned, "version": version}

    @api.get("/pins")
    async def pins(
        session_id: Line, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """The pinned steps, and why: a person's word, or a rule that was stated."""
        return {"pins": await store.changes.pins(who.tenant, session_id)}

    @api.post("/delete")
    async def delete(
        session_id: Line, body: Delete, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """Hides at once, erases when the grace is over; /v1/memory/forget erases at once."""
        return await store.changes.delete(who.tenant, session_id, body.cursors, body.grace_s)

    @api.post("/undo")
    async def undo(
        session_id: Line, body: Undo, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        return await store.changes.undo(who.tenant, session_id, body.version)

    @api.get("/changes")
    async def changes(
        session_id: Line,
        limit: Limit = 100,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return {"changes": await store.changes.history(who.tenant, session_id, limit)}

    return api
