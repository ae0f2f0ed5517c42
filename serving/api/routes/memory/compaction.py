"""/v1/memory/sessions/{id}: what changes a view, and what was changed.

compact, revert, expand, compactions; pin, delete, undo, changes. Nothing here rewrites the log.
"""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.memory import DELETION_GRACE, MemoryStore
from burnish.serving.api.routes.memory.route import Body, Caller, Limit, Route
from fastapi import APIRouter, Depends
from pydantic import Field, model_validator


class Compact(Body):
    policy: str = "bm25"
    budget: Annotated[int, Field(ge=1)]
    query: str | None = None
    dry_run: bool = False
    version: Annotated[int, Field(ge=1)] | None = None


class Revert(Body):
    """Without `plan` the one before; "" takes every compaction out of the view."""

    plan: str | None = None


class Expand(Body):
    """A summary node, or single steps; not both."""

    node: str | None = None
    cursors: list[str] | None = Field(default=None, min_length=1, max_length=256)
    after: str = "0"
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    @model_validator(mode="after")
    def _one_target(self) -> "Expand":
        if (self.node is None) == (self.cursors is None):
            raise ValueError("name either node or cursors")
        return self


class Pin(Body):
    cursor: str
    pinned: bool = True


class Delete(Body):
    cursors: Annotated[list[str], Field(min_length=1, max_length=256)]
    grace_s: float = DELETION_GRACE


class Undo(Body):
    version: Annotated[int, Field(ge=1)] | None = None


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(prefix="/sessions/{session_id}", route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/compact")
    async def compact(
        session_id: str, body: Compact, store: MemoryStore = store_dependency, who: Caller = caller
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
        session_id: str, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """The plans made, newest first: what was saved, when, by which policy."""
        return {"compactions": await store.compaction.plans(who.tenant, session_id)}

    @api.get("/compactions/{plan}")
    async def compaction(
        session_id: str,
        plan: str,
        after: str = "0",
        limit: Limit = 100,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """One plan, with its verdict, score and reason for each step it looked at."""
        return await store.compaction.decisions(who.tenant, session_id, plan, after, limit)

    @api.post("/revert")
    async def revert(
        session_id: str, body: Revert, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        return await store.compaction.revert(who.tenant, session_id, body.plan)

    @api.post("/expand")
    async def expand(
        session_id: str, body: Expand, store: MemoryStore = store_dependency, who: Caller = caller
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
        session_id: str, body: Pin, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        version = await store.changes.pin(who.tenant, session_id, body.cursor, body.pinned)
        return {"cursor": body.cursor, "pinned": body.pinned, "version": version}

    @api.post("/delete")
    async def delete(
        session_id: str, body: Delete, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        """Hides at once, erases when the grace is over; /v1/memory/forget erases at once."""
        return await store.changes.delete(who.tenant, session_id, body.cursors, body.grace_s)

    @api.post("/undo")
    async def undo(
        session_id: str, body: Undo, store: MemoryStore = store_dependency, who: Caller = caller
    ) -> dict[str, Any]:
        return await store.changes.undo(who.tenant, session_id, body.version)

    @api.get("/changes")
    async def changes(
        session_id: str,
        limit: Limit = 100,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return {"changes": await store.changes.history(who.tenant, session_id, limit)}

    return api
