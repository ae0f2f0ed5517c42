"""/v1/memory/sessions: the sessions of an end user, and search over all of them."""

from collections.abc import Callable
from typing import Annotated, Any

from burnish.feedback.ranges import Label, Line, Paragraph
from burnish.memory import MemoryStore, search_user, user_sessions
from burnish.serving.api.routes.memory.route import Caller, Limit, Route
from fastapi import APIRouter, Depends, Query

User = Annotated[Label, Query(min_length=1)]


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(prefix="/sessions", route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.get("")
    async def sessions(
        user: User,
        after: Line = "",
        limit: Limit = 50,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        """By name; `after` is the last `session_id` of the page before."""
        return {"sessions": await user_sessions(store, who.tenant, user, after, limit)}

    @api.get("/search")
    async def search(
        user: User,
        query: Paragraph,
        limit: Limit = 10,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return {"results": await search_user(store, who.tenant, user, query, limit)}

    return api
