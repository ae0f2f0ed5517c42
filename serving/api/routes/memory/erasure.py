"""/v1/memory/forget and /export: erasure by target or by policy, and everything kept about a user."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from burnish.feedback.ranges import Count, Duration, Label, Line, Many
from burnish.memory import ForgettingPolicy, MemoryStore, export_user, forget_by_policy
from burnish.serving.api.routes.memory.route import Body, Caller, Route
from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import model_validator


class Forget(Body):
    """Exactly one of session, user, record and policy; cursors narrow a session to single steps.

    A policy chooses records, of one `user` or all; with `dry_run` it only tells which and why.
    """

    session_id: Line | None = None
    user: Label | None = None
    record_id: Line | None = None
    cursors: Many[Label] | None = None
    policy: ForgettingPolicy | None = None
    older_than_s: Duration | None = None
    keep: Count | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> "Forget":
        if self.policy is not None:
            if self.session_id is not None or self.record_id is not None:
                raise ValueError("a policy goes with user or with nothing")
            return self
        targets = [t for t in (self.session_id, self.user, self.record_id) if t is not None]
        if len(targets) != 1:
            raise ValueError("name exactly one of session_id, user, record_id, policy")
        if self.cursors is not None and self.session_id is None:
            raise ValueError("cursors go with session_id")
        if self.dry_run or self.keep is not None or self.older_than_s is not None:
            raise ValueError("dry_run, keep and older_than_s go with policy")
        return self


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/forget")
    async def forget(
        body: Forget,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """Erases for good; what stays is a tombstone that keeps late retries out."""
        if body.policy is not None:
            return await forget_by_policy(
                store.records,
                who.tenant,
                body.policy,
                dry_run=body.dry_run,
                user=body.user,
                older_than_s=body.older_than_s,
                keep=body.keep,
            )
        if body.user is not None:
            return await store.forget_user(who.tenant, body.user)
        if body.record_id is not None:
            return {"records": await store.records.forget(who.tenant, body.record_id)}
        return {"steps": await store.forget(who.tenant, body.session_id or "", body.cursors)}

    @api.get("/export")
    async def export(
        user: Annotated[Label, Query(min_length=1)],
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> StreamingResponse:
        """Everything kept about an end user, one JSON object per line."""
        kept = export_user(store, who.tenant, user)
        lines = (json.dumps(one, ensure_ascii=False) + "\n" async for one in kept)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    return api
