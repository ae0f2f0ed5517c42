"""/v1/memory/records, /extract and /forget: facts that outlive a session, and erasure.

Moments are seconds since 1970 or ISO 8601 (UTC where it names no zone). A write that sends
`if_version` is refused with 409 when someone else wrote in between.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from burnish.memory import (
    ForgettingPolicy,
    MemoryStore,
    RecordFilter,
    export_user,
    forget_by_policy,
)
from burnish.serving.api.routes.memory_route import Asker, Body, Limit, Route
from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator, Field, model_validator


def _moment(value: object) -> object:
    """ISO 8601 to seconds since 1970; a number as text becomes one; the rest pydantic refuses."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("send seconds since 1970 or an ISO 8601 moment") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


Moment = Annotated[float, BeforeValidator(_moment), Field(allow_inf_nan=False)]


class NewRecord(Body):
    text: str | None = None
    id: str | None = None
    user: str | None = None
    subject: str | None = None
    predicate: str | None = None
    value: str | None = None
    session_id: str | None = None
    cursors: list[str] = []
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    expires_at: Moment | None = None
    pinned: bool = False
    if_version: int | None = Field(None, ge=0)


class Correction(Body):
    """What to change; a field that is not sent stays, null takes it away."""

    text: str | None = None
    value: str | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    expires_at: Moment | None = None
    pinned: bool | None = None
    if_version: int | None = Field(None, ge=1)


class Judgement(Body):
    value: float = Field(ge=-1, le=1)


class Extract(Body):
    """Which steps to read: of these roles, behind this cursor. `user` owns the records.

    With `model` the served model looks too: slower, and as good as that model is.
    """

    user: str | None = None
    roles: list[str] = ["user"]
    after: str = "0"
    model: bool = False
    dry_run: bool = False


class Forget(Body):
    """Exactly one of session, user, record and policy; cursors narrow a session to single steps.

    A policy chooses records, of one `user` or all; with `dry_run` it only tells which and why.
    """

    session_id: str | None = None
    user: str | None = None
    record_id: str | None = None
    cursors: list[str] | None = None
    policy: ForgettingPolicy | None = None
    older_than_s: float | None = Field(None, ge=0)
    keep: int | None = Field(None, ge=0)
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


def asked_for(
    user: str | None = None,
    session_id: str | None = None,
    subject: str | None = None,
    predicate: str | None = None,
    as_of: Annotated[Moment | None, Query()] = None,
    include_superseded: bool = False,
) -> RecordFilter:
    return RecordFilter(user, session_id, subject, predicate, as_of, include_superseded)


Asked = Annotated[RecordFilter, Depends(asked_for)]


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives an `Asker` and has checked the scope."""
    api = APIRouter(route_class=Route)
    asked_store, asker = Depends(get_store), Depends(auth)

    @api.post("/records", status_code=201)
    async def put_record(
        body: NewRecord,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        record = body.model_dump(exclude_none=True, exclude={"if_version"})
        return await store.records.put(who.tenant, record, if_version=body.if_version)

    @api.get("/records")
    async def list_records(
        asked: Asked,
        after: str | None = None,
        limit: Limit = 50,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        found = await store.records.list(who.tenant, asked, after=after, limit=limit)
        return {"records": found}

    @api.get("/records/search")
    async def search_records(
        query: str,
        asked: Asked,
        limit: Limit = 10,
        recall: bool = True,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        found = await store.records.search(who.tenant, query, asked, limit=limit, recall=recall)
        return {"results": found}

    @api.get("/records/{record_id}")
    async def get_record(
        record_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        return await store.records.get(who.tenant, record_id)

    @api.patch("/records/{record_id}")
    async def correct_record(
        record_id: str,
        body: Correction,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        changes = body.model_dump(exclude_unset=True, exclude={"if_version"})
        return await store.records.update(who.tenant, record_id, changes, body.if_version)

    @api.post("/records/{record_id}/feedback", status_code=204)
    async def judge_record(
        record_id: str,
        body: Judgement,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> None:
        """Was it of use where it was recalled? Policies of forgetting go by it."""
        await store.records.judge(who.tenant, record_id, body.value)

    @api.delete("/records/{record_id}", status_code=204)
    async def delete_record(
        record_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> None:
        await store.records.delete(who.tenant, record_id)

    @api.post("/sessions/{session_id}/extract")
    async def extract(
        session_id: str,
        body: Extract,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        """Facts stated in the session's steps become records; again is harmless."""
        return await store.extraction.extract(who.tenant, session_id, **body.model_dump())

    @api.post("/forget")
    async def forget(
        body: Forget,
        store: MemoryStore = asked_store,
        who: Asker = asker,
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
        user: Annotated[str, Query(min_length=1)],
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> StreamingResponse:
        """Everything kept about an end user, one JSON object per line."""
        kept = export_user(store, who.tenant, user)
        lines = (json.dumps(one, ensure_ascii=False) + "\n" async for one in kept)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    return api
