"""API keys, each with a tenant and scopes, kept as hashes in one SQLite file.

The file's existence says that keys are in use: with every key revoked or expired it admits nobody.
A server reads it at most once a second, so a key revoked elsewhere is refused within that time.
Left out: what a key allows (auth.py). A key is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from burnish.feedback.keyring import stamp_of

SCOPES = ("chat", "feedback", "memory", "admin")
FRESH_S = 1.0  # seconds for which what was read is believed, unless the file changes before


class KeysUnreadable(OSError):
    """The file of the keys cannot be read or written."""


@dataclass(frozen=True)
class KeyInfo:
    """What may be shown of a key. Times in seconds since 1970; `expires_at` None: never."""

    prefix: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None = None


class KeyStore:
    """Keys at rest: sha256 of a 160-bit random key (nothing to brute-force, so no slow hash).

    True when some key is valid. `clock` gives the time of day.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        self.path = path
        self._clock = clock
        self._read: Mapping[str, KeyInfo] = {}  # by digest
        self._read_at = -FRESH_S
        self._read_stamp: object = None

    @property
    def in_use(self) -> bool:
        """Whether a key was ever made here."""
        return self.path.exists()

    def __bool__(self) -> bool:
        return any(self._is_valid(key) for key in self._keys().values())

    def create(
        self,
        tenant: str,
        scopes: Iterable[str] = ("chat", "feedback", "memory"),
        *,
        lasts_s: float | None = None,
    ) -> str:
        """Make a key and return it; this is the only time it can be read. Raises ValueError."""
        wanted = tuple(dict.fromkeys(scopes))
        unknown = [scope for scope in wanted if scope not in SCOPES]
        if unknown or not wanted:
            raise ValueError(f"scopes are {', '.join(SCOPES)}; not {', '.join(unknown) or 'none'}")
        if not tenant or not tenant.replace("-", "").replace("_", "").isalnum():
            raise ValueError("a tenant is letters, digits, '-' and '_'")
        now = self._clock()
        with self._written() as db:
            return _insert(db, tenant, wanted, now, None if lasts_s is None else now + lasts_s)

    def rotate(self, name: str, keep_s: float) -> str:
        """A new key in place of the one with this prefix, or the only valid one of this tenant.

        The old one is good for `keep_s` seconds more. Raises LookupError.
        """
        valid = [key for key in self.list() if self._is_valid(key)]
        found = [key for key in valid if key.prefix == name] or [
            key for key in valid if key.tenant == name
        ]
        if not found:
            raise LookupError(f"no valid key starts with {name}, or is of a tenant of this name")
        if len(found) > 1:
            prefixes = ", ".join(key.prefix for key in found)
            raise LookupError(f"'{name}' has {len(found)} keys ({prefixes}): name one of them")
        (old,), now = found, self._clock()
        end = now + keep_s if old.expires_at is None else min(now + keep_s, old.expires_at)
        with self._written() as db:
            db.execute("UPDATE keys SET expires_at = ? WHERE prefix = ?", (end, old.prefix))
            return _insert(db, old.tenant, old.scopes, now, old.expires_at)

    def check(self, key: str) -> KeyInfo | None:
        """The key's entry, if it is one of ours and has not expired."""
        found = self._keys().get(_digest(key))
        return found if found is not None and self._is_valid(found) else None

    def list(self) -> list[KeyInfo]:
        """Expired ones too, in the order in which they were made."""
        return sorted(self._keys().values(), key=lambda key: key.created_at)

    def revoke(self, prefix: str) -> bool:
        """Forget the key that is shown as `prefix`; False when there is none."""
        if not self.in_use:
            return False
        with self._written() as db:
            return db.execute("DELETE FROM keys WHERE prefix = ?", (prefix,)).rowcount > 0

    def _is_valid(self, key: KeyInfo) -> bool:
        return key.expires_at is None or key.expires_at > self._clock()

    def _keys(self) -> Mapping[str, KeyInfo]:
        """Every key by its digest, as read a moment ago or now."""
        stamp, now = stamp_of(self.path), time.monotonic()
        # The file's time alone is too coarse for two changes within a few milliseconds.
        if stamp == self._read_stamp and now - self._read_at < FRESH_S:
            return self._read
        self._read = {} if stamp is None else self._all()
        self._read_stamp, self._read_at = stamp, now
        return self._read

    def _all(self) -> dict[str, KeyInfo]:
        with self._opened() as db:
            rows = db.execute(
                "SELECT digest, prefix, tenant, scopes, created_at, expires_at FROM keys"
            ).fetchall()
        return {
            digest: KeyInfo(prefix, tenant, tuple(scopes.split()), made, expires)
            for digest, prefix, tenant, scopes, made, expires in rows
        }

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on a file that only its owner may read, from its first byte on."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._opened() as db, db:
            yield db
        self._read_at = -FRESH_S

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=5)) as db:
                _migrate(db)
                yield db
        except sqlite3.Error as error:
            raise KeysUnreadable(f"The API keys in {self.path} cannot be read: {error}.") from error


def _migrate(db: sqlite3.Connection) -> None:
    known = [name for _, name, *_ in db.execute("PRAGMA table_info(keys)")]
    if not known:
        db.execute(
            "CREATE TABLE IF NOT EXISTS keys (digest TEXT PRIMARY KEY, prefix TEXT, tenant TEXT,"
            " scopes TEXT, created_at REAL, expires_at REAL)"
        )
    elif "expires_at" not in known:  # a file from before keys could expire
        db.execute("ALTER TABLE keys ADD COLUMN expires_at REAL")


def _insert(
    db: sqlite3.Connection,
    tenant: str,
    scopes: Iterable[str],
    made: float,
    expires: float | None,
) -> str:
    key = "bk-" + secrets.token_hex(20)
    row = (_digest(key), key[:10], tenant, " ".join(scopes), made, expires)
    db.execute(
        "INSERT INTO keys (digest, prefix, tenant, scopes, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        row,
    )
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
