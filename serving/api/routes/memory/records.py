"""/v1/memory/records and /extract: facts that outlive a session.

Times are seconds since 1970 or ISO 8601 (UTC where it names no zone). A write that sends
`if_version` is refused with 409 when someone else wrote in between.
"""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.feedback.ranges import (
    Count,
    Few,
    Label,
    Line,
    Many,
    Paragraph,
    Positive,
    Text,
    Word,
)
from burnish.memory import MemoryStore, RecordFilter
from burnish.serving.api.routes.memory.route import Body, Caller, Limit, Route, Time
from fastapi import APIRouter, Depends, Query
from pydantic import Field


class NewRecord(Body):
    text: Text | None = None
    id: Line | None = None
    user: Label | None = None
    subject: Line | None = None
    predicate: Line | None = None
    value: Text | None = None
    session_id: Line | None = None
    cursors: Many[Label] = []
    valid_from: Time | None = None
    valid_until: Time | None = None
    expires_at: Time | None = None
    pinned: bool = False
    if_version: Count | None = None


class Correction(Body):
    """What to change; a field that is not sent stays, null takes it away."""

    text: Text | None = None
    value: Text | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None
    expires_at: Time | None = None
    pinned: bool | None = None
    if_version: Positive | None = None


class Judgement(Body):
    value: float = Field(ge=-1, le=1, allow_inf_nan=False)


class Extract(Body):
    """Which steps to read: of these roles, behind this cursor. `user` owns the records.

    With `model` the served model looks too: slower, and as good as that model is.
    """

    user: Label | None = None
    roles: Few[Word] = ["user"]
    after: Label = "0"
    model: bool = False
    dry_run: bool = False


def record_filter(
    user: Label | None = None,
    session_id: Line | None = None,
    subject: Line | None = None,
    predicate: Line | None = None,
    as_of: Annotated[Time | None, Query()] = None,
    include_superseded: bool = False,
) -> RecordFilter:
    return RecordFilter(user, session_id, subject, predicate, as_of, include_superseded)


Wanted = Annotated[RecordFilter, Depends(record_filter)]


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/records", status_code=201)
    async def put_record(
        body: NewRecord,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> Any:
        record = body.model_dump(exclude_none=True, exclude={"if_version"})
        return await store.records.put(who.tenant, record, if_version=body.if_version)

    @api.get("/records")
    async def list_records(
        criteria: Wanted,
        after: Line | None = None,
        limit: Limit = 50,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        found = await store.records.list(who.tenant, criteria, after=after, limit=limit)
        return {"records": found}

    @api.get("/records/search")
    async def search_records(
        query: Paragraph,
        criteria: Wanted,
        limit: Limit = 10,
        recall: bool = True,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        found = await store.records.search(who.tenant, query, criteria, limit=limit, recall=recall)
        return {"results": found}

    @api.get("/records/{record_id}")
    async def get_record(
        record_id: Line,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> Any:
        return await store.records.get(who.tenant, record_id)

    @api.patch("/records/{record_id}")
    async def correct_record(
        record_id: Line,
        body: Correction,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> Any:
        changes = body.model_dump(exclude_unset=True, exclude={"if_version"})
        return await store.records.update(who.tenant, record_id, changes, body.if_version)

    @api.post("/records/{record_id}/feedback", status_code=204)
    async def judge_record(
        record_id: Line,
        body: Judgement,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> None:
        """Was it of use where it was recalled? Policies of forgetting go by it."""
        await store.records.judge(who.tenant, record_id, body.value)

    @api.delete("/records/{record_id}", status_code=204)
    async def delete_record(
        record_id: Line,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> None:
        await store.records.delete(who.tenant, record_id)

    @api.post("/sessions/{session_id}/extract")
    async def extract(
        session_id: Line,
        body: Extract,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> Any:
        """Facts stated in the session's steps become records; again is harmless."""
        return await store.extraction.extract(who.tenant, session_id, **body.model_dump())

    return api
