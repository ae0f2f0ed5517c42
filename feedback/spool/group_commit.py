"""Group commit: one thread writes, and what waits together shares one transaction and one fsync.

So many callers at once cost little more than one. On a full disk the spool's reserve is given up
for the jobs that free space. Left out: what is written; a job is any function of the connection, and
the spool keeps its own accounts.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.feedback.disk import DiskSpace
from burnish.feedback.errors import DiskFull, SpoolDamaged, SpoolError
from burnish.feedback.spool.reserve import Reserve

GROUP = 512
"""Jobs that share one commit, at most."""


@dataclass(frozen=True)
class Job:
    """Work for the writer's thread. `reserved`: bytes the caller has counted for it already; a job
    without any stores nothing. `alone`: outside any transaction."""

    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]
    reserved: int = 0
    alone: bool = False


class GroupCommit:
    """Runs jobs in order on `db`, which it owns; `path` is its file.

    `begin` runs inside each transaction before its jobs, `settle` once it has ended, with its jobs
    and whether they are on disk; both on the writer's thread. `stopped` runs when that thread ends.
    `last_error` is why the last group that stored something failed; None if it did not.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        reserve: Reserve,
        *,
        begin: Callable[[sqlite3.Connection], None],
        settle: Callable[[Sequence[Job], bool], None],
        stopped: Callable[[], None],
    ) -> None:
        self._path, self._reserve = path, reserve
        self.last_error: SpoolError | None = None
        self._begin, self._settle, self._stopped = begin, settle, stopped
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(db,), name="spool", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """`job.done` is running already: a result for one that was cancelled would end the thread."""
        self._jobs.put(job)

    def close(self) -> None:
        """Finish what was put, then end the thread."""
        self._jobs.put(None)

    def join(self) -> None:
        self._thread.join()

    @property
    def vital(self) -> threading.Thread:
        """The thread without which nothing is written."""
        return self._thread

    def _run(self, db: sqlite3.Connection) -> None:
        group: list[Job] = []
        try:
            closing = False
            while not closing:
                taken = [self._jobs.get()]
                while len(taken) < GROUP and not self._jobs.empty():
                    taken.append(self._jobs.get())
                closing = None in taken
                group = [job for job in taken if job is not None]
                if together := [job for job in group if not job.alone]:
                    self._commit(db, together)
                for job in group:
                    if job.alone:
                        self._run_alone(db, job)
        finally:
            # Nobody may wait for a thread that has ended.
            self._stopped()
            while not self._jobs.empty():
                group.extend(job for job in [self._jobs.get()] if job is not None)
            for job in group:
                if not job.done.done():
                    job.done.set_exception(SpoolError(f"{self._path}: the writer has failed"))
            db.close()

    def _run_alone(self, db: sqlite3.Connection, job: Job) -> None:
        try:
            job.done.set_result(job.work(db))
        except sqlite3.Error as error:  # a file that is not written anew holds all that it did
            job.done.set_exception(spool_error(self._path, error))

    def _commit(self, db: sqlite3.Connection, group: Sequence[Job]) -> None:
        results: list[Any] = []
        failure: SpoolError | None = None
        try:
            db.execute("BEGIN IMMEDIATE")
            self._begin(db)
            results = [job.work(db) for job in group]
            db.execute("COMMIT")  # returns after the fsync
        except Exception as error:  # noqa: BLE001
            # A job's own failure must neither end the thread that everyone writes through, nor be
            # its neighbours': they are tried again, each alone.
            if db.in_transaction:
                db.execute("ROLLBACK")
            if len(group) > 1 and not isinstance(error, sqlite3.OperationalError):
                for job in group:
                    self._commit(db, [job])
                return
            failure = spool_error(self._path, error)
            failure.__cause__ = error
        if any(job.reserved for job in group):
            self.last_error = failure
        freeing: list[Job] = []
        if isinstance(failure, DiskFull) and self._reserve.give_up():
            freeing = [job for job in group if not job.reserved]
            group = [job for job in group if job.reserved]
        self._settle(group, failure is None)
        for i, job in enumerate(group):
            if failure is None:
                job.done.set_result(results[i])
            else:
                job.done.set_exception(failure)
        if freeing:
            self._commit(db, freeing)


def spool_error(path: Path, error: Exception) -> SpoolError:
    """SQLite's error, or that of a job, as one of ours, with the way out."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it only adds detail
    # An I/O error is what a full disk looks like where SQLite grows its shared index.
    disk = DiskSpace(path.parent)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and disk.free() < 2**20):
        return DiskFull(f"{path}: {error} ({disk.free() / 1e6:.1f} MB free)")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SpoolDamaged(f"{path}: {error}; stop the service and run `burnish repair`")
    return SpoolError(f"{path}: {error}")
