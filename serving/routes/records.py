"""/v1/memory/records and /forget: facts that outlive a session, and erasure of all of it."""

from collections.abc import Callable
from typing import Any

from burnish.memory import MemoryStore
from burnish.serving.routes.memory_route import Asker, Body, Limit, Route
from fastapi import APIRouter, Depends
from pydantic import model_validator


class NewRecord(Body):
    text: str
    id: str | None = None
    user: str | None = None
    session_id: str | None = None
    cursors: list[str] = []


class Forget(Body):
    """Exactly one of session, user or record; cursors narrow a session to single steps."""

    session_id: str | None = None
    user: str | None = None
    record_id: str | None = None
    cursors: list[str] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> "Forget":
        targets = [t for t in (self.session_id, self.user, self.record_id) if t is not None]
        if len(targets) != 1:
            raise ValueError("name exactly one of session_id, user, record_id")
        if self.cursors is not None and self.session_id is None:
            raise ValueError("cursors go with session_id")
        return self


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
        return await store.records.put(who.tenant, body.model_dump(exclude_none=True))

    @api.get("/records")
    async def list_records(
        user: str | None = None,
        after: str | None = None,
        limit: Limit = 50,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        found = await store.records.list(who.tenant, user=user, after=after, limit=limit)
        return {"records": found}

    @api.get("/records/search")
    async def search_records(
        query: str,
        user: str | None = None,
        limit: Limit = 10,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        return {"results": await store.records.search(who.tenant, query, user=user, limit=limit)}

    @api.get("/records/{record_id}")
    async def get_record(
        record_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        return await store.records.get(who.tenant, record_id)

    @api.delete("/records/{record_id}", status_code=204)
    async def delete_record(
        record_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> None:
        await store.records.delete(who.tenant, record_id)

    @api.post("/forget")
    async def forget(
        body: Forget,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, int]:
        """Erases for good; what stays is a tombstone that keeps late retries out."""
        if body.user is not None:
            return await store.forget_user(who.tenant, body.user)
        if body.record_id is not None:
            return {"records": await store.records.forget(who.tenant, body.record_id)}
        return {"steps": await store.forget(who.tenant, body.session_id or "", body.cursors)}

    return api
