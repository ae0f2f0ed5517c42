"""/v1/memory: sessions (events, context, search, pin, stats), records, forget.

A thin face over `burnish.memory`: pydantic checks the shapes, the room itself checks the
content, and its errors become OpenAI-shaped 4xx answers. The tenant is the API key's;
no request can name one.
"""

from collections.abc import Callable
from typing import Annotated, Any, Protocol

from burnish.memory import (
    BadCursor,
    BudgetTooSmall,
    Forgotten,
    IdConflict,
    MemoryStore,
    RecordNotFound,
    SessionNotFound,
    StoreError,
    TooLarge,
)
from burnish.serving.errors import ApiError
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

# The first class that matches decides; anything else the room refuses is a 400.
_ANSWERS: tuple[tuple[type[StoreError], int, str, str | None], ...] = (
    (TooLarge, 413, "too_large", None),
    (BudgetTooSmall, 400, "budget_too_small", "budget"),
    (BadCursor, 400, "bad_cursor", "cursor"),
    (IdConflict, 409, "id_conflict", "id"),
    (SessionNotFound, 404, "session_not_found", "session_id"),
    (RecordNotFound, 404, "record_not_found", "record_id"),
    (Forgotten, 410, "forgotten", None),
    (StoreError, 400, "bad_step", None),
)


Limit = Annotated[int, Query(ge=1, le=1000)]


class Asker(Protocol):
    """What the routes need to know of who asks."""

    @property
    def tenant(self) -> str: ...


class _Route(APIRoute):
    """Turns what the memory room raises into the service's one error shape."""

    def get_route_handler(self) -> Callable:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except StoreError as error:
                status, code, param = next(a[1:] for a in _ANSWERS if isinstance(error, a[0]))
                raise ApiError(status, str(error), code=code, param=param) from error
            except RedisError as error:
                message = "Memory's Redis does not answer; try again shortly."
                raise ApiError(503, message, code="memory_unavailable", retry_after=1) from error

        return answer


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Event(_Body):
    role: str
    content: str | list[dict[str, Any]] | None = None
    kind: str | None = None
    id: str | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    pinned: bool = False


class Events(_Body):
    events: list[Event] = Field(min_length=1)
    user: str | None = None


class Pin(_Body):
    cursor: str
    pinned: bool = True


class NewRecord(_Body):
    text: str
    id: str | None = None
    user: str | None = None
    session_id: str | None = None
    cursors: list[str] = []


class Forget(_Body):
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
    api = APIRouter(prefix="/v1/memory", tags=["memory"], route_class=_Route)
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
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        return {"events": await store.read(who.tenant, session_id, after, limit)}

    @api.get("/sessions/{session_id}/context")
    async def context(
        session_id: str,
        budget: Annotated[int, Query(ge=1)],
        query: str | None = None,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> Any:
        view = await store.context(who.tenant, session_id, budget, query)
        if view["version"] == 0:
            raise SessionNotFound(f"no session {session_id!r}: append a step to begin it")
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

    @api.post("/sessions/{session_id}/pin")
    async def pin(
        session_id: str,
        body: Pin,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        await store.pin(who.tenant, session_id, body.cursor, body.pinned)
        return {"cursor": body.cursor, "pinned": body.pinned}

    @api.get("/sessions/{session_id}/stats")
    async def stats(
        session_id: str,
        store: MemoryStore = asked_store,
        who: Asker = asker,
    ) -> dict[str, Any]:
        return await store.stats(who.tenant, session_id)

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
