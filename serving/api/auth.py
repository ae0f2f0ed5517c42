"""Who is asking: what a request's API key (keys.py) allows it.

Until a key is made, a server bound to loopback takes the user who runs it, and root, as tenant
"local" with all scopes (a bearer token, which OpenAI's clients insist on sending, is accepted
unread). The first key ends that for good: revoking the last one closes the server. Without a key the
Host header must name loopback too, so that a web page elsewhere cannot reach the service through a
rebound name.
Left out: users, passwords, rate limits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from burnish.serving.api import feedback_tokens
from burnish.serving.api.errors import ApiError
from burnish.serving.api.feedback_tokens import FeedbackGrant, TokenInvalid
from burnish.serving.api.keys import SCOPES, KeyStore, KeysUnreadable
from burnish.serving.api.local_user import is_ours
from fastapi import Request

_LOOPBACK = {"localhost", "::1", "[::1]"}
_LOOPBACK_V4 = re.compile(r"127(\.\d{1,3}){3}")


@dataclass(frozen=True)
class Principal:
    """Who sent a request. `tenant` comes from the key alone and prefixes everything stored for it."""

    tenant: str
    scopes: frozenset[str]
    key: str | None = None  # the prefix shown, for logs
    grant: FeedbackGrant | None = None  # of a feedback token, which allows that and nothing else

    @property
    def account(self) -> str:
        """What budgets are counted by."""
        return self.key or self.tenant

    @property
    def actor(self) -> str:
        """Who it was, for histories and the audit log."""
        return f"{self.tenant} ({self.key})" if self.key else self.tenant

    def check_scope(self, scope: str, param: str | None = None) -> None:
        """Raises ApiError (403) naming the scope, and the field that needs it."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            message = f"This key lacks the scope '{scope}' (it has: {has})."
            raise ApiError(403, message, code="missing_scope", param=param)


LOCAL = Principal("local", frozenset(SCOPES))


def is_loopback(host: str) -> bool:
    return host in _LOOPBACK or _LOOPBACK_V4.fullmatch(host) is not None


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    name = host.rsplit(":", 1)[0] if re.search(r":\d*$", host) else host
    return name.lower()


def is_from_another_user(request: Request) -> bool:
    """Whether another user of this machine sent it, as far as the system tells."""
    peer, here = request.scope.get("client"), request.scope.get("server")
    if peer is None or here is None or here[1] is None:  # not over TCP
        return False
    return is_ours(tuple(peer), tuple(here)) is False


class Auth:
    """Checks requests. `Depends(auth.require("chat"))` gives a route its `Principal`."""

    def __init__(self, keys: KeyStore, host: str, names: Iterable[str] = ()):
        """`names`: what Host headers may say besides loopback while there are no keys."""
        self.keys = keys
        self.host = host
        self.names = frozenset(name.lower() for name in names)

    def require(
        self, scope: str | None = None, *, or_token: bool = False
    ) -> Callable[[Request], Awaitable[Principal]]:
        """A dependency: any valid key (scope None), or one that has the scope; `or_token`: or a feedback
        token, whose grant the route then has to keep to."""

        async def principal(request: Request) -> Principal:
            who: Principal = request.scope["principal"]  # put there by admission.py
            if who.grant is not None:
                if or_token:
                    return who
                message = "A feedback token is for /v1/feedback, on its own interaction."
                raise ApiError(403, message, code="token_not_allowed")
            if scope is not None:
                who.check_scope(scope)
            return who

        return principal

    def identify(self, request: Request) -> Principal:
        """Whose key or token it is. ApiError: 401, or 403 for the host."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        # Anthropic's clients have a header of their own.
        bearer = (
            token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        )
        if bearer.startswith(feedback_tokens.PREFIX):
            return self._granted(request, bearer)
        try:
            who = self.keys.check(bearer) if bearer else None
            if who is not None:
                return Principal(who.tenant, frozenset(who.scopes), who.prefix)
            closed, empty = self.keys.in_use, not self.keys
        except KeysUnreadable as error:
            raise ApiError(503, str(error), code="keys_unreadable", retry_after=5) from error
        if closed or not is_loopback(self.host):
            problem = "Incorrect API key." if bearer else "No API key was sent."
            way = "Send 'Authorization: Bearer <key>'; keys are made with 'burnish keys'."
            if empty:
                way = "No key is valid any more: make one on the server, 'burnish keys add NAME'."
            raise ApiError(401, f"{problem} {way}", code="invalid_api_key")
        if is_from_another_user(request):
            message = (
                "Without keys this server takes only the user who runs it. Make a key as that user,"
                " 'burnish keys add NAME', and send it: 'Authorization: Bearer <key>'."
            )
            raise ApiError(401, message, code="invalid_api_key")
        name = host_name(request.headers.get("host", ""))
        if not is_loopback(name) and name not in self.names:
            message = (
                f"Without keys this server answers to loopback names only, not '{name}';"
                " BURNISH_ALLOWED_HOSTS names others."
            )
            raise ApiError(403, message, code="host_not_allowed", param="Host")
        return LOCAL

    def _granted(self, request: Request, token: str) -> Principal:
        """Who holds a feedback token: no scope, and one grant."""
        secret = request.app.state.service.secret
        try:
            grant = feedback_tokens.read(secret, token, time.time())
        except TokenInvalid as error:
            raise ApiError(401, str(error), code="invalid_feedback_token") from error
        return Principal(grant.tenant, frozenset(), grant=grant)
