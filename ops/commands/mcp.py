"""`burnish mcp`: memory as tools of the Model Context Protocol, over standard input and output or HTTP."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceError, find_url
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

HOST = "127.0.0.1"


def mcp(
    port: Annotated[
        int | None,
        typer.Option(help="Listen on this port of loopback, at /mcp (standard input and output)."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder (BURNISH_DATA_DIR, .burnish).")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Service to talk to (BURNISH_URL).")] = None,
) -> None:
    """Offer the running service's memory to an agent's host that speaks MCP."""
    settings = config.load({"data_dir": data_dir, "url": url})
    try:
        from burnish.serving.client.mcp_server import Service, memory_server
    except ModuleNotFoundError as error:
        raise ServiceError("burnish mcp needs an extra: pip install '.[mcp]'") from error
    server = memory_server(Service(find_url(settings), settings.api_key), version("burnish"))
    if port is None:
        server.run()
        return
    import uvicorn

    app = OwnUser(server.streamable_http_app(stateless_http=True, host=HOST))
    uvicorn.run(app, host=HOST, port=port, log_level="warning")


class OwnUser:
    """Without a key of its own, a caller must be the user who runs us: the service, which knows by the
    connection, would take everybody's calls for ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from burnish.serving.api.auth import is_from_another_user

        if scope["type"] == "http" and is_from_another_user(Request(scope)):
            refusal = PlainTextResponse("only the user who runs this server may call it", 403)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
