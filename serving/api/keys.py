"""API keys, each with a tenant and scopes, kept as hashes: in a SQLite file, or a PostgreSQL database that
several servers share.

That the file, or the table, is there says that keys are in use: with every key revoked or expired it
admits nobody. A server reads them at most once a second, so a key revoked elsewhere is refused within
that time. While the database is away a server goes on with what it read last, for `STALE_S` at most.
Left out: what a key allows (auth.py). A key is shown once, when it is made.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.feedback.keyring import stamp_of
from burnish.feedback.masking import masked

SCOPES = ("chat", "feedback", "memory", "admin")
FRESH_S = 1.0  # seconds for which what was read is believed, unless the file changes before
AGAIN_S = 2.0  # until a database that was away is asked again
STALE_S = 300.0  # and while the database cannot be asked

log = logging.getLogger(__name__)


class KeysUnreadable(OSError):
    """The keys cannot be read or written."""


TABLE = "burnish_keys"  # in a database of others
_CREATE = (
    "CREATE TABLE IF NOT EXISTS {table} (digest TEXT PRIMARY KEY, prefix TEXT, tenant TEXT,"
    " scopes TEXT, created_at {real}, expires_at {real})"
)


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

    True when some key is valid. `clock` gives the time of day. `url`: of a PostgreSQL database, which
    has the keys instead of the file.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, *, url: str | None = None
    ):
        self.path = path
        self._url = url
        self._clock = clock
        self._table_seen = False  # of the database
        self._read: Mapping[str, KeyInfo] = {}  # by digest
        self._read_at = -FRESH_S
        self._read_stamp: object = None
        self._asking = threading.Lock()
        self._ask_at = -FRESH_S  # not before; of a database that was away
        self._is_away = False

    @property
    def in_use(self) -> bool:
        """Whether a key was ever made here."""
        if self._url is None:
            return self.path.exists()
        self._keys()
        return self._table_seen

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
            return _insert(
                db, self._table, tenant, wanted, now, None if lasts_s is None else now + lasts_s
            )

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
            db.execute(
                f"UPDATE {self._table} SET expires_at = ? WHERE prefix = ?", (end, old.prefix)
            )
            return _insert(db, self._table, old.tenant, old.scopes, now, old.expires_at)

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
            return db.execute(f"DELETE FROM {self._table} WHERE prefix = ?", (prefix,)).rowcount > 0

    def _is_valid(self, key: KeyInfo) -> bool:
        return key.expires_at is None or key.expires_at > self._clock()

    def _keys(self) -> Mapping[str, KeyInfo]:
        """Every key by its digest, as read a moment ago or now."""
        stamp = stamp_of(self.path) if self._url is None else self._url
        now = time.monotonic()
        # The file's time alone is too coarse for two changes within a few milliseconds.
        if stamp == self._read_stamp and now - self._read_at < FRESH_S:
            return self._read
        known = self._url is not None and self._read_stamp is not None
        if not known or now - self._read_at > STALE_S:
            self._read = {} if stamp is None else self._all()
            self._read_stamp, self._read_at = stamp, now
        elif now >= self._ask_at and self._asking.acquire(blocking=False):
            try:  # one at a time: a database that hangs must not hold up every request
                self._read = self._all()
                self._read_at, self._is_away = now, False
            except KeysUnreadable as error:
                if not self._is_away:
                    log.warning("%s Those read %.0f s ago still count.", error, now - self._read_at)
                self._is_away = True
                self._ask_at = time.monotonic() + AGAIN_S
            finally:
                self._asking.release()
        return self._read

    def _all(self) -> dict[str, KeyInfo]:
        with self._opened() as db:
            if self._url is not None:
                found = db.execute("SELECT to_regclass('burnish_keys')").fetchone()
                self._table_seen = found is not None and found[0] is not None
                if not self._table_seen:
                    return {}
            rows = db.execute(
                f"SELECT digest, prefix, tenant, scopes, created_at, expires_at FROM {self._table}"
            ).fetchall()
        return {
            digest: KeyInfo(prefix, tenant, tuple(scopes.split()), made, expires)
            for digest, prefix, tenant, scopes, made, expires in rows
        }

    @property
    def _table(self) -> str:
        return "keys" if self._url is None else TABLE

    @contextmanager
    def _written(self) -> Iterator[Any]:
        """One transaction; a file is its owner's alone to read, from its first byte on."""
        if self._url is not None:
            with self._opened() as db, db.transaction():
                db.execute(_CREATE.format(table=TABLE, real="DOUBLE PRECISION"))
                yield db
            self._read_at = -FRESH_S
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._opened() as db, db:
            yield db
        self._read_at = -FRESH_S

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self._url is not None:
            with _postgres(self._url) as shared:
                yield shared
            return
        try:
            with closing(sqlite3.connect(self.path, timeout=5)) as db:
                _migrate(db)
                yield db
        except sqlite3.Error as error:
            raise KeysUnreadable(f"The API keys in {self.path} cannot be read: {error}.") from error


def _migrate(db: sqlite3.Connection) -> None:
    known = [name for _, name, *_ in db.execute("PRAGMA table_info(keys)")]
    if not known:
        db.execute(_CREATE.format(table="keys", real="REAL"))
    elif "expires_at" not in known:  # a file from before keys could expire
        db.execute("ALTER TABLE keys ADD COLUMN expires_at REAL")


class _Shared:
    """A connection to PostgreSQL that takes SQLite's parameters."""

    def __init__(self, connection: Any):
        self._connection = connection

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self._connection.execute(statement.replace("?", "%s").encode(), values)

    def transaction(self) -> Any:
        return self._connection.transaction()


@contextmanager
def _postgres(url: str) -> Iterator[_Shared]:
    import psycopg

    try:
        address = url.replace("+psycopg", "", 1)
        with psycopg.connect(address, connect_timeout=3, autocommit=True) as connection:
            yield _Shared(connection)
    except psycopg.Error as error:
        raise KeysUnreadable(
            f"The API keys in the database of BURNISH_KEYS_URL cannot be read: {masked(str(error))}."
        ) from error


def _insert(
    db: Any,
    table: str,
    tenant: str,
    scopes: Iterable[str],
    made: float,
    expires: float | None,
) -> str:
    key = "bk-" + secrets.token_hex(20)
    row = (_digest(key), key[:10], tenant, " ".join(scopes), made, expires)
    db.execute(
        f"INSERT INTO {table} (digest, prefix, tenant, scopes, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        row,
    )
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
