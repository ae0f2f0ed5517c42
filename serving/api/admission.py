"""What is let in, decided before a body is read: whose key, which site's, what kind, how large.

Then the body is read whole, within a size and a time, and handed on. Plain ASGI, around every route,
so that none can forget it. Left out: scopes (auth.py) and what a body says (json_body.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.budgets import Budgets
from burnish.serving.api.cors import ELEMENT, is_for_feedback
from burnish.serving.api.errors import ApiError
from burnish.serving.settings import ServingSettings
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIVENESS = "/healthz"  # answers whatever else is stuck
_key_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="keys")
_OPEN = ("/", "/readyz", "/version", "/docs", "/openapi.json")
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")


class Admission:
    """Puts the `Principal` into `scope["principal"]`: None where a path is open to everyone."""

    def __init__(self, app: ASGIApp, auth: Auth, settings: ServingSettings):
        self.app = app
        self._auth = auth
        self._max_bytes = int(settings.max_body_mb * 2**20)
        self._body_timeout_s = settings.body_timeout_s
        self._origins = frozenset(settings.allowed_origins)
        self._feedback_origins = self._origins | set(settings.feedback_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        who: Principal | None = None
        try:
            if scope["path"] != LIVENESS:
                who = await self._principal(scope)
            changing = scope["method"] in _CHANGING
            if changing or "origin" in headers:  # no page could read the answer either
                check_site(headers, self._origins_for(scope["path"], who))
            if changing:
                check_media_type(headers)
            budgets: Budgets = scope["app"].state.service.budgets
            async with budgets.admit(who) as limits:
                body = await self._body(headers, receive)
                if body is None:
                    return
                scope["principal"] = who
                await self.app(scope, _replay(body, receive), _with_headers(send, limits))
        except ApiError as refusal:  # raised here; the routes' own are answered further in
            await refusal.response(scope["path"])(scope, receive, send)

    def _origins_for(self, path: str, who: Principal | None) -> frozenset[str]:
        """Whose pages may send this: a product's may judge with a token, and load what does."""
        by_token = who is not None and who.grant is not None and is_for_feedback(path)
        return self._feedback_origins if by_token or path == ELEMENT else self._origins

    async def _principal(self, scope: Scope) -> Principal | None:
        """Whose key it is; None without one on an open path. ApiError: 401, or 403 for the host."""
        try:
            # Keys are in a file, and a file may be slow.
            loop, identify = asyncio.get_running_loop(), self._auth.identify
            return await loop.run_in_executor(_key_threads, identify, Request(scope))
        except ApiError as refusal:
            if refusal.status == 401 and _is_open(scope["path"]):
                return None
            raise

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None if the client has gone. ApiError: 413, or 408 where it takes too long."""
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._max_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            message = f"The body did not arrive within {self._body_timeout_s:g} s."
            slow = ApiError(408, message, code="body_timeout")
            slow.headers["Connection"] = "close"
            raise slow from error

    def _too_large(self) -> ApiError:
        message = (
            f"A body may have {self._max_bytes:,} bytes (BURNISH_MAX_BODY_MB). Send less at once."
        )
        return ApiError(413, message, code="too_large")


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/static/")


def check_site(headers: Mapping[str, str], allowed: frozenset[str]) -> None:
    """Refuse what a page of another site has a browser send (CSRF). Raises ApiError (403).

    Browsers name the page's origin in every request that changes something; other clients send
    none. Source: Fetch Metadata Request Headers (W3C), and the Origin header of the Fetch standard.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin in allowed:
        return
    foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    if foreign or site not in (None, "same-origin", "none"):
        message = (
            f"Pages of {origin or 'another site'} may not use this server."
            " BURNISH_ALLOWED_ORIGINS names the origins that may; BURNISH_FEEDBACK_ORIGINS those that may"
            " judge, with a token."
        )
        raise ApiError(403, message, code="origin_not_allowed", param="Origin")


def check_media_type(headers: Mapping[str, str]) -> None:
    """JSON, or nothing. A form is sent by pages of any site unasked. Raises ApiError (415)."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    if not is_json and not (empty and not media_type):
        sent = f"not '{media_type}'" if media_type else "and names its Content-Type"
        message = f"A body is JSON (Content-Type: application/json), {sent}."
        raise ApiError(415, message, code="unsupported_media_type", param="Content-Type")
    if headers.get("content-encoding", "identity").lower() != "identity":
        message = "A body is sent as it is, without Content-Encoding."
        raise ApiError(415, message, code="unsupported_media_type", param="Content-Encoding")


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then what the server says, such as that the client has gone."""
    read = False

    async def replayed() -> Message:
        nonlocal read
        if read:
            return await receive()
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _with_headers(send: Send, added: Mapping[str, str]) -> Send:
    if not added:
        return send
    encoded = [(name.encode(), value.encode()) for name, value in added.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *encoded]}
        await send(message)

    return sending
