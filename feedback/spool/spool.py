"""The durable spool: what has been accepted, until the stream has it; and who judged what.

`append` returns after the commit that holds the event has reached the disk (group_commit.py).
SQLite in WAL mode with synchronous=FULL.

The feedback ledger lives in the same file and the same transactions: the last judgement of each
user, by id and by interaction, so that repeated posts change nothing and retractions find their
target. It is this instance's memory of what it accepted, kept for `ledger_days`; the experience
database of the learner is the record for good. With a `shared` ledger (sharing.py) replicas agree first.

Left out: sharing the file between processes. One process owns it; a second one is refused.
"""

import asyncio
import fcntl
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.feedback.disk import DiskSpace
from burnish.feedback.errors import (
    DiskFull,
    EventTooLarge,
    LedgerUnavailable,
    SpoolError,
    SpoolFull,
)
from burnish.feedback.events import (
    Event,
    FeedbackEvent,
    InteractionEvent,
    RetractionEvent,
    encode,
)
from burnish.feedback.spool import forgetting, unshared
from burnish.feedback.spool.forgetting import Erased
from burnish.feedback.spool.group_commit import GroupCommit, Job, spool_error
from burnish.feedback.spool.ledger import Ledger, LedgerRow, Status
from burnish.feedback.spool.reserve import Reserve
from burnish.feedback.spool.shared_ledger import Judged, SharedLedger
from burnish.feedback.spool.sharing import Arrival, Sharing
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.telemetry import tracing

_TABLES = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    headers TEXT NOT NULL,
    value BLOB NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER PRIMARY KEY,
    topic TEXT,
    key TEXT,
    headers TEXT,
    value BLOB,
    bytes INTEGER,
    reason TEXT
);
"""
_TAKE_UP_AGAIN = """
BEGIN;
INSERT INTO outbox SELECT seq, topic, key, headers, value, bytes FROM refused;
DELETE FROM refused;
COMMIT;
"""


@dataclass(frozen=True)
class Receipt:
    """What became of an event. `unchanged`: this server had heard the same before."""

    event_id: str
    status: Status


@dataclass(frozen=True)
class Spooled:
    seq: int
    record: StreamRecord


class Spool:
    def __init__(
        self,
        path: Path | str,
        *,
        max_bytes: int = 512 * 2**20,
        max_event_bytes: int = 4 * 2**20,
        ledger_days: float = 90.0,
        disk: DiskSpace | None = None,
        shared: SharedLedger | None = None,
    ) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.max_event_bytes = max_event_bytes
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._disk = disk or DiskSpace(self.path.parent, low_bytes=0)
        self._owned = self.path.with_name(self.path.name + ".lock").open("w")
        try:
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._owned.close()
            raise SpoolError(f"{self.path} is in use by another process") from None
        self._ledger = Ledger(ledger_days)
        # Opening may need space too. Whatever an earlier process held is free meanwhile.
        self._reserve = Reserve(self.path.with_name(self.path.name + ".reserve"))
        self._reserve.give_up()
        try:
            writer, self._reader = self._connect(), self._connect()
            writer.executescript(_TABLES)
            self._ledger.create(writer)
            unshared.create(writer)
            forgetting.create(writer)
            # What the stream refused may pass by now: its limits are settings of its own.
            writer.executescript(_TAKE_UP_AGAIN)
            self._bytes, self._count = writer.execute(
                "SELECT coalesce(sum(bytes), 0), count(*) FROM outbox"
            ).fetchone()
        except sqlite3.Error as error:
            self._owned.close()
            raise spool_error(self.path, error) from error
        self._reserve.hold()
        self._reading = threading.Lock()
        self._accounts = threading.Lock()
        self._arrived = threading.Event()
        self._closed = False
        self._next_prune = 0.0
        # What the transaction in progress adds to the accounts, should it commit.
        self._moved_bytes = self._moved_count = 0
        self._commits = GroupCommit(
            writer,
            self.path,
            self._reserve,
            begin=self._begin,
            settle=self._settle,
            stopped=self._stopped,
        )
        self.sharing = None if shared is None else Sharing(shared, self._commit, self)
        if self.sharing is not None:
            self.sharing.start()

    # -- Writing -----------------------------------------------------------------------------

    async def append(self, topic: str, key: str, event: Event) -> Receipt:
        """Store one event for the stream. Returns when it is on disk.

        Raises SpoolFull when too much is waiting for the stream, DiskFull, EventTooLarge, SpoolError.
        """
        return (await self.append_many([(topic, key, event)]))[0]

    async def append_many(self, entries: Sequence[tuple[str, str, Event]]) -> list[Receipt]:
        """Store several events, all or none."""
        # A caller that is cancelled while waiting may find its event stored all the same.
        return await asyncio.shield(asyncio.wrap_future(self.submit(entries)))

    def submit(self, entries: Sequence[tuple[str, str, Event]]) -> Future[list[Receipt]]:
        """The same for callers without an event loop."""
        carried, began = tracing.carried(), time.time()
        arrivals = [
            Arrival(event, encode(event, topic, key).with_headers(carried))
            for topic, key, given in entries
            for event in [given.accepted(given.time) if isinstance(given, FeedbackEvent) else given]
        ]
        for arrival in arrivals:
            if (size := arrival.record.size) > self.max_event_bytes:
                raise EventTooLarge(
                    f"{arrival.event.event_id}: {size} bytes, {self.max_event_bytes} allowed"
                )
        stored = self._enqueue(
            lambda db: [self._store(db, arrival) for arrival in arrivals],
            sum(arrival.record.size for arrival in arrivals),
            arrivals,
        )
        if carried:
            stored.add_done_callback(lambda done: _trace(began, carried, done))
        return stored

    async def retract(
        self, tenant: str, feedback_id: str, interaction_id: str | None = None
    ) -> RetractionEvent:
        """Take a judgement back by its id, also one that was accepted on another server."""
        row = await asyncio.to_thread(self.find, tenant, feedback_id)
        event = RetractionEvent(
            id=f"ret-{uuid.uuid4().hex}",
            tenant=tenant,
            feedback_id=feedback_id,
            user=row.event.user if row else None,
            interaction_id=row.event.interaction_id if row else interaction_id,
            session_id=row.event.session_id if row else None,
        )
        await self.append(event.topic, event.key, event)
        return event

    def delete(self, seqs: Iterable[int]) -> None:
        """Forget events that the stream has acknowledged."""
        wanted = list(seqs)
        self._enqueue(lambda db: [self._remove(db, seq) for seq in wanted]).result()

    def refuse(self, seq: int, reason: str) -> None:
        """Put aside an event that the stream will not take, with the reason, until the next start."""

        def put_aside(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO refused SELECT seq, topic, key, headers, value, bytes, ? FROM outbox"
                " WHERE seq = ?",
                (reason, seq),
            )
            self._remove(db, seq)

        self._enqueue(put_aside).result()

    def forget_unshared(self, seqs: Sequence[int]) -> None:
        """They are in the shared ledger now."""
        self._enqueue(lambda db: unshared.forget(db, seqs)).result()

    def forget(self, erased: Erased) -> dict[str, int]:
        """Delete what people did until they were erased, and leave nothing of it in the file; how many
        rows of each table. Raises SpoolError."""

        def remove(db: sqlite3.Connection) -> dict[str, list[tuple]]:
            found = forgetting.find(db, erased)
            for (seq,) in found["outbox"]:
                self._remove(db, seq)
            forgetting.delete(db, found)
            return found

        def note(db: sqlite3.Connection) -> None:
            forgetting.note(db, max(erased.values()))

        def write_anew(db: sqlite3.Connection) -> None:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        found = self._enqueue(remove).result()
        # Also where nothing was found: what was sent on before lies on free pages.
        self._enqueue(write_anew, alone=True).result()
        self._enqueue(note).result()
        return {table: len(rows) for table, rows in found.items()}

    # -- Reading -----------------------------------------------------------------------------

    def take(self, n: int, max_bytes: int = 16 * 2**20) -> list[Spooled]:
        """The oldest events that wait for the stream; they stay until deleted."""
        taken: list[Spooled] = []
        room = max_bytes
        with self._read():
            rows = self._reader.execute(
                "SELECT seq, topic, key, headers, value, bytes FROM outbox ORDER BY seq LIMIT ?",
                (n,),
            )
            for seq, topic, key, headers, value, size in rows:
                if taken and size > room:
                    break
                room -= size
                taken.append(Spooled(seq, StreamRecord(topic, key, value, json.loads(headers))))
            rows.close()
        return taken

    def wait(self, timeout: float) -> bool:
        """Whether something has arrived since the last call; waits for it up to `timeout` s."""
        arrived = self._arrived.wait(timeout)
        self._arrived.clear()
        return arrived

    def wake(self) -> None:
        """End a `wait` now."""
        self._arrived.set()

    def waiting(self) -> int:
        """How many events the stream does not have yet."""
        return self._count

    def waiting_bytes(self) -> int:
        return self._bytes

    @property
    def last_error(self) -> SpoolError | None:
        """Why the last event could not be stored; None if it could."""
        return self._commits.last_error

    def refused(self) -> list[tuple[int, str, str]]:
        """What was put aside: (seq, topic, reason)."""
        with self._read():
            found = self._reader.execute("SELECT seq, topic, reason FROM refused ORDER BY seq")
            return found.fetchall()

    def take_unshared(self, n: int) -> list[tuple[int, Judged]]:
        """The oldest judgements that the shared ledger does not have; they stay until forgotten."""
        with self._read():
            return unshared.take(self._reader, n)

    def forgotten_until(self) -> float:
        """The time of the last erasure that `forget` has seen to, in seconds since the epoch."""
        with self._read():
            return forgetting.forgotten_until(self._reader)

    def count(self, erased: Erased) -> dict[str, int]:
        """How many rows of each table `forget` would delete."""
        with self._read():
            return {
                table: len(rows) for table, rows in forgetting.find(self._reader, erased).items()
            }

    def find(self, tenant: str, feedback_id: str) -> LedgerRow | None:
        """A judgement by id, whether it stands or not."""
        with suppress(LedgerUnavailable):
            if self.sharing and (row := self.sharing.ledger.find(tenant, feedback_id)):
                return row
        with self._read():
            return self._ledger.find(self._reader, tenant, feedback_id)

    def get(self, tenant: str, feedback_id: str) -> FeedbackEvent | None:
        """A judgement that stands, by id."""
        row = self.find(tenant, feedback_id)
        return row.event if row and row.state == "stands" else None

    def judgements(self, tenant: str, interaction_id: str) -> list[FeedbackEvent]:
        """The judgements that stand on an interaction (or a session, by its id)."""
        with suppress(LedgerUnavailable):
            if self.sharing is not None:
                return self.sharing.ledger.on(tenant, interaction_id)
        with self._read():
            return self._ledger.on(self._reader, tenant, interaction_id)

    @property
    def vital(self) -> threading.Thread:
        """The thread without which nothing is accepted."""
        return self._commits.vital

    @contextmanager
    def _read(self) -> Iterator[None]:
        with self._reading:
            try:
                yield
            except sqlite3.Error as error:
                raise SpoolError(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        with self._accounts:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            if self.sharing is not None:
                self.sharing.close()
            self._commits.close()
        self._commits.join()
        self._reader.close()
        self._owned.close()

    # -- The writer's thread -----------------------------------------------------------------

    def _enqueue(
        self,
        work: Callable[[sqlite3.Connection], Any],
        reserve: int = 0,
        arrivals: Sequence[Arrival] = (),
        alone: bool = False,
    ) -> Future[Any]:
        job = Job(work, Future(), reserve, alone)
        job.done.set_running_or_notify_cancel()  # from here on nobody can cancel it
        judged = not all(isinstance(arrival.event, InteractionEvent) for arrival in arrivals)
        with self._accounts:
            if self._closed:
                raise SpoolError(f"{self.path} is closed")
            if reserve:
                self._check_room(reserve)
            # Counted before it is written: a burst cannot slip past the cap.
            self._bytes += reserve
            if judged and self.sharing is not None:
                self.sharing.put(job, arrivals)
            else:
                self._commits.put(job)
        return job.done

    def _commit(self, job: Job) -> None:
        """A job that has waited to be shared; the writer may have failed meanwhile."""
        if self._commits.vital.is_alive():
            self._commits.put(job)
        else:
            job.done.set_exception(SpoolError(f"{self.path}: the writer has failed"))

    def _check_room(self, size: int) -> None:
        if self._bytes + size > self.max_bytes:
            raise SpoolFull(
                f"{self._count} events wait for the stream, {self._bytes} bytes of"
                f" {self.max_bytes} allowed"
            )
        # Without its reserve the spool only empties, until there is room for both again.
        if self._disk.is_full() or not (self._reserve.held or self._reserve.hold()):
            raise DiskFull(str(self._disk))

    def _begin(self, db: sqlite3.Connection) -> None:
        self._moved_bytes = self._moved_count = 0
        if time.monotonic() > self._next_prune:
            self._ledger.prune(db)
            self._next_prune = time.monotonic() + 3600

    def _settle(self, group: Sequence[Job], committed: bool) -> None:
        with self._accounts:
            self._bytes -= sum(job.reserved for job in group)
            if committed:
                self._bytes += self._moved_bytes
                self._count += self._moved_count
        self._arrived.set()

    def _stopped(self) -> None:
        with self._accounts:
            self._closed = True

    def _store(self, db: sqlite3.Connection, arrival: Arrival) -> Receipt:
        record = arrival.record
        accepted, status = self._entered(db, arrival)
        if accepted != arrival.event:
            again = encode(accepted, record.topic, record.key)
            record = again.with_headers({**record.headers, **again.headers})
        headers = json.dumps(dict(record.headers))
        db.execute(
            "INSERT INTO outbox (topic, key, headers, value, bytes) VALUES (?, ?, ?, ?, ?)",
            (record.topic, record.key, headers, record.value, record.size),
        )
        self._moved_bytes += record.size
        self._moved_count += 1
        return Receipt(record.event_id, status)

    def _entered(self, db: sqlite3.Connection, arrival: Arrival) -> tuple[Event, Status]:
        """The event as it is accepted, and what that meant to the ledger."""
        event = arrival.event
        if isinstance(event, InteractionEvent):
            return event, "stored"
        if (shared := arrival.entered) is not None:
            self._ledger.enter(db, shared.event)
            return shared.event, shared.status
        if isinstance(event, FeedbackEvent):
            event, status = self._ledger.judge(db, event)
        else:
            event, status = self._ledger.retract(db, event)
        if self.sharing is not None:
            unshared.add(db, event)
        return event, status

    def _remove(self, db: sqlite3.Connection, seq: int) -> None:
        found = db.execute("DELETE FROM outbox WHERE seq = ? RETURNING bytes", (seq,)).fetchall()
        for (size,) in found:
            self._moved_bytes -= size
            self._moved_count -= 1

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun and ended by hand; each connection stays with its user.
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        return db


def _trace(began: float, carried: Mapping[str, str], done: Future[Any]) -> None:
    error = done.exception()
    why = None if error is None else type(error).__name__
    tracing.past("spool", began, time.time(), parent=carried[tracing.HEADER], error=why)
