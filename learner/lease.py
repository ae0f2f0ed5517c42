"""A lease on Redis: one holder at a time, and a fencing token against a holder that outlived it.

The lock itself (`SET NX PX`, renewed by a thread) only saves two processes from doing the same work.
Correctness comes from the token: it grows with every holder, and the database refuses a transaction
that carries a smaller one than it has seen (Kleppmann, "How to do distributed locking", 2016).
Left out: waiting in a queue. A process that finds the lease held gets LeaseHeld at once.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from types import TracebackType

import redis
from burnish.feedback.contract import FENCE_PREFIX, LEASE_PREFIX
from burnish.learner.database import Database, LearnerError
from burnish.learner.tables import FenceRow
from sqlalchemy import update
from sqlalchemy.orm import Session

# Renewing and releasing must only touch one's own lock.
_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


class LeaseHeld(LearnerError):
    """Another process holds the lease."""


class LeaseLost(LearnerError):
    """The lease expired while this process held it; a newer holder may have written since."""


class Lease:
    """Use as a context manager; `check()` before anything that cannot be undone.

    Parameters: `name`, and `seconds` the lease outlives a dead holder.
    Raises LeaseHeld on entry, LeaseLost from `check` and `fence`.
    """

    def __init__(
        self, client: redis.Redis, name: str, seconds: float = 30.0, *, database: Database
    ) -> None:
        self.name = name
        self._database = database
        self.token = 0
        self._redis = client
        self._key = LEASE_PREFIX + name
        self._milliseconds = int(seconds * 1000)
        self._secret = secrets.token_hex(16)
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        if not self._redis.set(self._key, self._secret, nx=True, px=self._milliseconds):
            raise LeaseHeld(f"another process holds the lease {self.name!r}")
        try:
            self.token = self._next_token()
        except BaseException:
            self._release()  # or nobody could take it until it runs out
            raise
        self._thread = threading.Thread(target=self._renew, name=f"lease-{self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._release()

    def _release(self) -> None:
        # Without Redis it runs out by itself.
        with suppress(redis.RedisError):
            self._redis.eval(_RELEASE, 1, self._key, self._secret)

    def check(self) -> None:
        """Raises LeaseLost when the lock is known to have gone."""
        if self._lost.is_set():
            raise LeaseLost(
                f"the lease {self.name!r} ran out while it was held; the next tick goes on from here"
            )

    def fence(self, session: Session) -> None:
        """Write this holder's fencing token, in the caller's own transaction. Raises LeaseLost."""
        self.check()
        admit(session, self.name, self.token)

    def _next_token(self) -> int:
        """A fencing token above all that the database has seen, even if Redis lost its counter."""
        with self._database.read() as session:
            row = session.get(FenceRow, self.name)
        key = FENCE_PREFIX + self.name
        token = int(self._redis.incr(key))  # type: ignore[arg-type]
        if row is not None and token <= row.token:
            token = int(self._redis.incrby(key, row.token - token + 1))  # type: ignore[arg-type]
        return token

    def _renew(self) -> None:
        while not self._stop.wait(self._milliseconds / 3000):
            try:
                kept = self._redis.eval(_RENEW, 1, self._key, self._secret, self._milliseconds)
            except redis.RedisError:
                # It may be away, slow or loading, and come back before the lease runs out. Whether
                # somebody else has taken it, the fence decides.
                continue
            if not kept:
                self._lost.set()
                return


def admit(session: Session, name: str, token: int) -> None:
    """Write `token` as the newest of its name, or raise LeaseLost if a newer one has written.

    The row stays locked until the transaction ends, so an older holder cannot slip in between.
    """
    row = session.get(FenceRow, name, with_for_update=True)
    if row is None:
        session.add(FenceRow(name=name, token=token))
    elif row.token > token:
        raise LeaseLost(
            f"another process took over {name!r} meanwhile, and goes on with it (token {token}, now {row.token})"
        )
    else:
        session.execute(update(FenceRow).where(FenceRow.name == name).values(token=token))
    session.flush()
