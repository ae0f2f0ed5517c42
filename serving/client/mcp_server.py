"""Memory as tools of the Model Context Protocol, for agents whose host speaks it.

    append      add steps to a session            records     facts that outlive sessions
    context     messages that fill a budget       remember    keep a fact
    search      find steps again                  forget      erase

Each call is one request to the service, by its HTTP API. Over standard input and output the process
that started us is the caller, and the API key is ours. Over HTTP every caller sends a key of its own,
which is passed on.

Left out: prompts and resources; chat, which has APIs of its own.
Source: modelcontextprotocol.io, by its official SDK.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from burnish.serving.client.aio import AsyncMemory
from burnish.serving.client.calls import Call, Calls
from burnish.serving.client.shapes import Json, Record, ServiceError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

T = TypeVar("T")
INSTRUCTIONS = (
    "A memory for work that outlasts a context window. Append what is said and done to a session;"
    " ask for its context before you answer; remember facts that should outlive the session."
)

READS = ToolAnnotations(read_only_hint=True)

Session = Annotated[str, Field(description="Names the session, or conversation.")]
User = Annotated[str | None, Field(description="The end user whose it is.")]
Limit = Annotated[int, Field(ge=1, le=100, description="Results at most.")]


class Service:
    """The burnish service at `url`. `api_key` is that of calls that bring none."""

    def __init__(self, url: str, api_key: str | None = None, **options: Any) -> None:
        self._url, self._api_key, self._options = url, api_key, options

    async def send(self, call: Context[Any], request: Call[T]) -> T:
        """Raises ToolError, which says what the service refuses and which argument it means."""
        headers = call.headers
        key = self._api_key if headers is None else bearer_of(headers.get("authorization"))
        try:
            async with AsyncMemory(self._url, key, **self._options) as memory:
                return await memory.send(request)
        except ServiceError as error:
            meant = f" (argument: {error.param})" if error.param else ""
            raise ToolError(f"{error}{meant}") from error


def bearer_of(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def memory_server(service: Service, version: str) -> MCPServer[Any]:
    """The tools; `run()` serves standard input and output, `streamable_http_app()` is for HTTP."""

    server = MCPServer("burnish-memory", version=version, instructions=INSTRUCTIONS)

    @server.tool()
    async def append(
        session: Session,
        events: Annotated[
            list[dict[str, Any]],
            Field(description='Steps: {"role", "content", "kind"?, "id"?, "at"?, "tool_calls"?}.'),
        ],
        call: Context[Any],
        user: User = None,
    ) -> dict[str, Any]:
        """Add steps to a session: messages, tool calls and their results, in order."""
        kept = await service.send(call, Calls.append(session, events, user))
        return {"events": [asdict(one) for one in kept]}

    @server.tool(annotations=READS)
    async def context(
        session: Session,
        call: Context[Any],
        budget: Annotated[int, Field(ge=1, description="Tokens at most.")] = 2000,
        query: Annotated[str | None, Field(description="What the next prompt is about.")] = None,
    ) -> dict[str, Any]:
        """Messages of a session that fill a token budget: pins, rules, the newest, what is relevant."""
        return asdict(await service.send(call, Calls.context(session, budget, query)))

    @server.tool(annotations=READS)
    async def search(
        query: Annotated[str, Field(description="Words to find.")],
        call: Context[Any],
        session: Annotated[str | None, Field(description="One session; or name a user.")] = None,
        user: User = None,
        limit: Limit = 10,
    ) -> dict[str, Any]:
        """Find steps again: of one session, or of all sessions of an end user."""
        if (session is None) == (user is None):
            raise ToolError("name either a session or a user whose sessions to search")
        return {"results": await service.send(call, Calls.find(query, session, user, limit))}

    @server.tool(annotations=READS)
    async def records(
        call: Context[Any],
        query: Annotated[str | None, Field(description="Words to find; none: list.")] = None,
        user: User = None,
        limit: Limit = 10,
    ) -> dict[str, Any]:
        """Facts that outlive sessions and hold now, the best matches first."""
        asked = Calls.search(query, limit, user=user) if query else Calls.records(limit, user=user)
        return {"records": [_told(one) for one in await service.send(call, asked)]}

    @server.tool()
    async def remember(
        text: Annotated[str, Field(description="The fact, as one sentence.")],
        call: Context[Any],
        user: User = None,
        subject: Annotated[str | None, Field(description="What it is about.")] = None,
        predicate: Annotated[str | None, Field(description="Which of its properties.")] = None,
        value: Annotated[str | None, Field(description="What that is now.")] = None,
    ) -> dict[str, Any]:
        """Keep a fact. With subject and predicate it takes the place of the one that held before."""
        fact = {"text": text, "user": user, "subject": subject, "predicate": predicate}
        given = {name: v for name, v in {**fact, "value": value}.items() if v is not None}
        return _told(await service.send(call, Calls.put(given)))

    @server.tool(annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True))
    async def forget(
        call: Context[Any],
        session: Annotated[str | None, Field(description="A session to erase.")] = None,
        user: Annotated[str | None, Field(description="An end user, with all there is.")] = None,
    ) -> dict[str, Any]:
        """Erase a session, or all about an end user, for good."""
        if (session is None) == (user is None):
            raise ToolError("name either a session or a user to forget")
        return await service.send(call, Calls.forget(session_id=session, user=user))

    return server


def _told(record: Record) -> Json:
    return {name: value for name, value in asdict(record).items() if value is not None}
