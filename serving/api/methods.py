"""HEAD and OPTIONS, which every path answers. Source: RFC 9110, sections 9.3.2 and 9.3.7.

HEAD is GET without the content; OPTIONS names the methods in `Allow` and needs no key, since it
tells nothing that /openapi.json does not. Left out: CORS's preflight (app.py).
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Methods:
    def __init__(self, app: ASGIApp):
        self.app = app
        self._allowed: list[tuple[Any, frozenset[str]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method == "HEAD":

            async def headers_only(message: Message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": b""}
                await send(message)

            await self.app({**scope, "method": "GET"}, receive, headers_only)
        elif method == "OPTIONS" and not _is_preflight(scope):
            allowed = self.allowed(scope)
            if allowed:
                response = Response(status_code=204, headers={"Allow": ", ".join(sorted(allowed))})
                await response(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def allowed(self, scope: Scope) -> set[str]:
        """The methods of a path; none where there is no such path."""
        if not self._allowed:
            for path, operations in scope["app"].openapi()["paths"].items():
                methods = frozenset(method.upper() for method in operations)
                self._allowed.append((compile_path(path)[0], methods))
        found: set[str] = set()
        for pattern, methods in self._allowed:
            if pattern.match(scope["path"]):
                found |= methods
        if "GET" in found:
            found.add("HEAD")
        return found | {"OPTIONS"} if found else found


def _is_preflight(scope: Scope) -> bool:
    return any(name == b"access-control-request-method" for name, _ in scope["headers"])
