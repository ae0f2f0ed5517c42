"""Who is asking: API keys with a tenant and scopes, kept as hashes in one SQLite file.

While no key is registered, a server bound to loopback takes everyone as tenant "local" with all
scopes (a bearer token, which OpenAI's clients insist on sending, is accepted unread). The first
registered key ends that. Without a key the Host header must name loopback too, so that a web page
elsewhere cannot reach the service through a rebound name.
Left out: users, passwords, rate limits. A key is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from burnish.serving.api.errors import ApiError
from fastapi import Request

SCOPES = ("chat", "feedback", "memory", "admin")
_LOOPBACK = {"localhost", "::1", "[::1]"}
_LOOPBACK_V4 = re.compile(r"127(\.\d{1,3}){3}")


@dataclass(frozen=True)
class Principal:
    """Who sent a request. `tenant` comes from the key alone and prefixes everything stored for it."""

    tenant: str
    scopes: frozenset[str]
    key: str | None = None  # the prefix shown, for logs

    @property
    def account(self) -> str:
        """What budgets are counted by."""
        return self.key or self.tenant

    def check_scope(self, scope: str, param: str | None = None) -> None:
        """Raises ApiError (403) naming the scope, and the field that needs it."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            message = f"This key lacks the scope '{scope}' (it has: {has})."
            raise ApiError(403, message, code="missing_scope", param=param)


LOCAL = Principal("local", frozenset(SCOPES))


@dataclass(frozen=True)
class KeyInfo:
    """What may be shown of a key."""

    prefix: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: float


class KeyStore:
    """Keys at rest: sha256 of a 160-bit random key (nothing to brute-force, so no slow hash)."""

    def __init__(self, path: Path):
        self.path = path

    def create(self, tenant: str, scopes: Iterable[str] = ("chat", "feedback", "memory")) -> str:
        """Make a key and return it; this is the only time it can be read."""
        wanted = tuple(dict.fromkeys(scopes))
        unknown = [scope for scope in wanted if scope not in SCOPES]
        if unknown or not wanted:
            raise ValueError(f"scopes are {', '.join(SCOPES)}; not {', '.join(unknown) or 'none'}")
        if not tenant or not tenant.replace("-", "").replace("_", "").isalnum():
            raise ValueError("a tenant is letters, digits, '-' and '_'")
        key = "bk-" + secrets.token_hex(20)
        row = (_digest(key), key[:10], tenant, " ".join(wanted), time.time())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as db, db:
            db.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?)", row)
        self.path.chmod(0o600)
        return key

    def check(self, key: str) -> Principal | None:
        rows = self._rows(
            "SELECT prefix, tenant, scopes FROM keys WHERE digest = ?", (_digest(key),)
        )
        return Principal(rows[0][1], frozenset(rows[0][2].split()), rows[0][0]) if rows else None

    def list(self) -> list[KeyInfo]:
        rows = self._rows("SELECT prefix, tenant, scopes, created_at FROM keys ORDER BY created_at")
        return [KeyInfo(prefix, tenant, tuple(s.split()), at) for prefix, tenant, s, at in rows]

    def revoke(self, prefix: str) -> bool:
        """Forget the key that is shown as `prefix`; False when there is none."""
        if not self.path.exists():
            return False
        with closing(self._open()) as db, db:
            return db.execute("DELETE FROM keys WHERE prefix = ?", (prefix,)).rowcount > 0

    def __bool__(self) -> bool:
        return bool(self._rows("SELECT 1 FROM keys LIMIT 1"))

    def _rows(self, sql: str, values: tuple = ()) -> list[tuple]:
        if not self.path.exists():
            return []
        with closing(self._open()) as db:
            return db.execute(sql, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=5)
        db.execute(
            "CREATE TABLE IF NOT EXISTS keys"
            " (digest TEXT PRIMARY KEY, prefix TEXT, tenant TEXT, scopes TEXT, created_at REAL)"
        )
        return db


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    return host in _LOOPBACK or _LOOPBACK_V4.fullmatch(host) is not None


def host_name(host: str) -> str:
    """The name in a Host header, without the port."""
    name = host.rsplit(":", 1)[0] if re.search(r":\d*$", host) else host
    return name.lower()


class Auth:
    """Checks requests. `Depends(auth.require("chat"))` gives a route its `Principal`."""

    def __init__(self, keys: KeyStore, host: str, names: Iterable[str] = ()):
        """`names`: what Host headers may say besides loopback while there are no keys."""
        self.keys = keys
        self.host = host
        self.names = frozenset(name.lower() for name in names)

    def require(self, scope: str | None = None) -> Callable[[Request], Awaitable[Principal]]:
        """A dependency: any valid key (scope None), or one that has the scope."""

        async def principal(request: Request) -> Principal:
            who: Principal = request.scope["principal"]  # put there by admission.py
            if scope is not None:
                who.check_scope(scope)
            return who

        return principal

    def identify(self, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        who = self.keys.check(bearer) if bearer else None
        if who is not None:
            return who
        if self.keys or not is_loopback(self.host):
            problem = "Incorrect API key." if bearer else "No API key was sent."
            message = (
                f"{problem} Send 'Authorization: Bearer <key>'; keys are made with 'burnish keys'."
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
