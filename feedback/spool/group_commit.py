"""Group commit: one thread writes, and what waits together shares one transaction and one fsync.

So many callers at once cost little more than one. Left out: what is written; a job is any function
of the connection, and the spool keeps its own accounts.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from burnish.feedback.errors import SpoolError

GROUP = 512
"""Jobs that share one commit, at most."""


@dataclass(frozen=True)
class Job:
    """Work for the writer's thread. `reserved`: bytes the caller has counted for it already."""

    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]
    reserved: int = 0


class GroupCommit:
    """Runs jobs in order on `db`, which it owns, under `name` in errors.

    `begin` runs inside each transaction before its jobs, `settle` once it has ended, with its jobs
    and whether they are on disk; both on the writer's thread. `stopped` runs when that thread ends.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        name: str,
        *,
        begin: Callable[[sqlite3.Connection], None],
        settle: Callable[[Sequence[Job], bool], None],
        stopped: Callable[[], None],
    ) -> None:
        self._name = name
        self._begin, self._settle, self._stopped = begin, settle, stopped
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(db,), name="spool", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
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
                self._commit(db, group)
        finally:
            # Nobody may wait for a thread that has ended.
            self._stopped()
            while not self._jobs.empty():
                group.extend(job for job in [self._jobs.get()] if job is not None)
            for job in group:
                if not job.done.done():
                    job.done.set_exception(SpoolError(f"{self._name}: the writer has failed"))
            db.close()

    def _commit(self, db: sqlite3.Connection, group: Sequence[Job]) -> None:
        results: list[Any] = []
        failure: SpoolError | None = None
        try:
            db.execute("BEGIN IMMEDIATE")
            self._begin(db)
            results = [job.work(db) for job in group]
            db.execute("COMMIT")  # returns after the fsync
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            failure = SpoolError(f"{self._name}: {error}")
        self._settle(group, failure is None)
        for i, job in enumerate(group):
            if failure is None:
                job.done.set_result(results[i])
            else:
                job.done.set_exception(failure)
