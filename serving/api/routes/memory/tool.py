"""POST /v1/memory/tool: the commands of Anthropic's memory tool, on files kept per end user.

A client passes the input of a `memory` tool call on and sends the answer back as its
tool_result. What the tool itself refuses is a 200 with `is_error`, for the model to read.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from burnish.feedback.ranges import Label
from burnish.memory import MemoryStore
from burnish.serving.api.routes.memory.route import Body, Caller, Route
from fastapi import APIRouter, Depends


class ToolCall(Body):
    """`input` is the tool call's, whole: command, path and so on."""

    input: dict[str, Any]
    user: Label | None = None


def router(get_store: Callable[..., MemoryStore], auth: Callable[..., Any]) -> APIRouter:
    """`auth` is a dependency that gives a `Caller` and has checked the scope."""
    api = APIRouter(route_class=Route)
    store_dependency, caller = Depends(get_store), Depends(auth)

    @api.post("/tool")
    async def tool(
        body: ToolCall,
        store: MemoryStore = store_dependency,
        who: Caller = caller,
    ) -> dict[str, Any]:
        return asdict(await store.files.run(who.tenant, body.user, body.input))

    return api
