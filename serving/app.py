"""The HTTP application: routes, one error shape, drain, and the page.

`create_app` takes an engine and a registry for tests and embedding; without them it opens what
the settings name. Left out: FastAPI's own /docs, whose assets would come from another host.
"""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from burnish.feedback.telemetry import tracing
from burnish.memory import MemoryStore
from burnish.serving.api import errors, openapi
from burnish.serving.api.admission import Admission
from burnish.serving.api.auth import Auth, KeyStore
from burnish.serving.api.cors import Cors
from burnish.serving.api.errors import ApiError, disk_full
from burnish.serving.api.methods import Methods
from burnish.serving.api.page_files import content_of, modules_of
from burnish.serving.api.routes import (
    alarms,
    audit,
    canaries,
    chat,
    compact,
    erase,
    feedback,
    feedback_tokens,
    health,
    learner,
    memory,
    messages,
    models,
    operations,
    policies,
    quarantine,
    responses,
)
from burnish.serving.api.service import Service, service_of
from burnish.serving.engine import Engine
from burnish.serving.registry import PolicyRegistry
from burnish.serving.settings import ServingSettings
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(str(files("burnish.serving"))) / "page"
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# Whatever the host's MIME table says, or modules would not load.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html; charset=utf-8"}
GONE = 499  # as nginx counts clients that hung up before there was an answer
_ALWAYS_OPEN = ("/healthz", "/readyz", "/metrics", "/version")


def load_engine(settings: ServingSettings) -> Engine:
    """The engine on the configured model. Raises ValueError on a folder that is no model, and where
    no server answers."""
    if settings.engine_url is not None:
        from burnish.serving.engine.vllm import VllmEngine

        return VllmEngine(
            settings.engine_urls,
            settings.model,
            key=settings.engine_key,
            max_requests=settings.max_running + settings.max_queue,
        )
    from burnish.serving.engine import LocalEngine

    return LocalEngine(
        settings.model,
        max_running=settings.max_running,
        max_waiting=settings.max_queue,
        threads=settings.threads or None,
        weights=settings.weights,
        kv_cache=settings.kv_cache,
    )


def create_app(
    settings: ServingSettings,
    engine: Engine | None = None,
    registry: PolicyRegistry | None = None,
) -> FastAPI:
    """The whole service as one ASGI application; it opens when the application starts."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service.build(settings, engine or load_engine(settings), registry)
        try:
            await app.state.service.start()
            yield
        finally:
            await app.state.service.stop()

    return bare_app(settings, life)


def bare_app(settings: ServingSettings, lifespan: Any = None) -> FastAPI:
    """Without a lifespan of its own: the caller puts an open `Service` into `app.state.service`."""
    app = FastAPI(
        title="Burnish", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.celery = learner.celery_client(settings.redis_url)
    keys = KeyStore(settings.data_dir / "keys.sqlite", url=settings.keys_url)
    auth = Auth(keys, settings.host, settings.allowed_hosts)
    errors.install(app)
    # In the order in which they are tried: what answers comes first.
    app.include_router(chat.router(auth))
    app.include_router(responses.router(auth))
    app.include_router(messages.router(auth))
    app.include_router(models.router(auth))
    app.include_router(feedback.router(auth))
    app.include_router(feedback_tokens.router(auth))
    app.include_router(memory.router(_memory, auth.require("memory")))
    app.include_router(compact.router(_memory_unwritten, _window, auth.require("memory")))
    app.include_router(policies.router(auth))
    app.include_router(canaries.router(auth))
    app.include_router(learner.router(auth))
    app.include_router(alarms.router(auth))
    app.include_router(quarantine.router(auth))
    app.include_router(erase.router(auth))
    app.include_router(audit.router(auth))
    app.include_router(operations.router(auth))
    app.include_router(health.router(auth))
    openapi.install(app)
    app.router.routes.append(Route("/openapi.json", _openapi))
    app.router.routes.append(Route("/docs", _page))
    app.router.routes.append(Route("/", _page))
    app.router.routes.append(Route("/static/{name:path}", _page))
    app.add_middleware(Admission, auth=auth, settings=settings)
    app.add_middleware(Cors, settings=settings)
    app.add_middleware(Traffic)
    app.add_middleware(Methods)
    return app


def _memory(request: Request) -> MemoryStore:
    """Refused for writes while the disk is full: Redis ends where it cannot write."""
    service = service_of(request)
    if request.method != "GET" and service.disk.is_full():
        raise disk_full(service.disk)
    return service.memory


def _memory_unwritten(request: Request) -> MemoryStore:
    return service_of(request).memory


def _window(request: Request) -> int:
    return service_of(request).engine.max_model_len


async def _page(request: Request) -> Response:
    """A file of the page, and no other file: names are looked up, never opened as they come."""
    index = "docs.html" if request.url.path == "/docs" else "index.html"
    name = request.path_params.get("name", index)
    file = _files().get(name)
    if file is None:
        raise ApiError(404, f"There is no page '{name}'.", code="not_found")
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    content = await asyncio.to_thread(content_of, file)
    return Response(content, media_type=kind, headers=PAGE_HEADERS | _preloads(file))


def _preloads(file: Path) -> dict[str, str]:
    """For a page: all its modules at once."""
    if file.suffix != ".html":
        return {}
    links = [f"</static/{name}>; rel=modulepreload" for name in modules_of(file)]
    return {"Link": ", ".join(links)}


async def _openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    return {file.relative_to(PAGE).as_posix(): file for file in PAGE.rglob("*") if file.is_file()}


class Traffic:
    """Counts, times and traces requests, and turns new ones away while the process drains.

    Plain ASGI: a middleware that wraps the response would hide a client's hanging up.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service: Service = scope["app"].state.service
        if service.refusing and scope["path"] not in _ALWAYS_OPEN:
            message = "The server is shutting down; try again in a moment."
            refusal = ApiError(503, message, code="draining", retry_after=5)
            refusal.headers["Connection"] = "close"
            await refusal.response(scope["path"])(scope, receive, send)
            return
        if not tracing.is_on() or scope["path"] in _ALWAYS_OPEN:
            await self._counted(service, scope, receive, send)
            return
        method, parent = scope["method"], Headers(scope=scope).get(tracing.HEADER)
        attributes = {"http.request.method": method}
        with tracing.span(method, attributes, kind="server", parent=parent) as span:
            route, status = await self._counted(service, scope, receive, send)
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_attribute("error.type", str(status))

    async def _counted(
        self, service: Service, scope: Scope, receive: Receive, send: Send
    ) -> tuple[str, int]:
        """Answer the request; its route and status."""
        status, began, route = 0, time.monotonic(), "other"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.draining:  # its next request is another server's
                    closing = (b"connection", b"close")
                    message = {**message, "headers": [*message["headers"], closing]}
            await send(message)

        service.in_flight += 1
        try:
            await self.app(scope, receive, watched)
            status = status or GONE
        finally:
            service.in_flight -= 1
            status = status or 500
            route = getattr(scope.get("route"), "path", route)
            service.metrics.requests.labels(route, status).inc()
            service.metrics.request_seconds.labels(route).observe(time.monotonic() - began)
        return route, status
