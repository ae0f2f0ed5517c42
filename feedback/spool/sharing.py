"""The stage before the spool's commit on which replicas agree: judgements pass the shared ledger first.

One thread; what waits together is entered together. While the shared ledger is away judgements pass it by:
the replica's own ledger decides, they are accepted as ever, and kept in the spool's file until they have
been entered afterwards. Left out: interactions, which go to the commit at once.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.feedback.errors import FeedbackError, LedgerUnavailable
from burnish.feedback.events import Event, InteractionEvent
from burnish.feedback.spool.group_commit import GROUP, Job
from burnish.feedback.spool.shared_ledger import Entered, Judged, SharedLedger
from burnish.feedback.stream.record import StreamRecord

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between looks at whether what could not be entered can be


@dataclass
class Arrival:
    """An event on its way into the spool, and how the shared ledger has entered it, once it was asked."""

    event: Event
    record: StreamRecord
    entered: Entered | None = None


class Unshared(Protocol):
    """What was accepted without the shared ledger, kept in the spool's file, the oldest first."""

    def take_unshared(self, n: int) -> list[tuple[int, Judged]]: ...
    def forget_unshared(self, seqs: Sequence[int]) -> None: ...


class Sharing:
    """`put` takes a job and its arrivals; `commit` gets the job once the ledger has been asked."""

    def __init__(
        self, ledger: SharedLedger, commit: Callable[[Job], None], unshared: Unshared
    ) -> None:
        self.ledger = ledger
        self._commit, self._unshared = commit, unshared
        self._next_look = 0.0
        self._is_away = False
        self._queue: queue.SimpleQueue[tuple[Job, Sequence[Arrival]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job, arrivals: Sequence[Arrival]) -> None:
        self._queue.put((job, arrivals))

    def close(self) -> None:
        """Pass on what was put, then end the thread."""
        self._queue.put(None)
        self._thread.join()
        self.ledger.close()

    @property
    def vital(self) -> threading.Thread:
        """The thread without which no judgement is accepted."""
        return self._thread

    def _run(self) -> None:
        closing = False
        while not closing:
            group = self._next()
            closing = None in group
            jobs = [each for each in group if each is not None]
            self._enter([arrival for _, arrivals in jobs for arrival in arrivals])
            for job, _ in jobs:
                self._commit(job)
            # By the clock, also where nothing was put: an earlier process may have left some, and what
            # was passed on without the ledger is in the file only once its commit has come.
            if not closing and time.monotonic() >= self._next_look:
                self._catch_up()
                self._next_look = time.monotonic() + LOOK_S

    def _next(self) -> list[tuple[Job, Sequence[Arrival]] | None]:
        try:
            group = [self._queue.get(timeout=LOOK_S)]
        except queue.Empty:
            return []
        while len(group) < GROUP and not self._queue.empty():
            group.append(self._queue.get())
        return group

    def _enter(self, arrivals: Sequence[Arrival]) -> None:
        judged = [a for a in arrivals if not isinstance(a.event, InteractionEvent)]
        if not judged:
            return
        try:
            events = [a.event for a in judged if not isinstance(a.event, InteractionEvent)]
            entered = self.ledger.enter(events)
        except LedgerUnavailable as error:
            if not self._is_away:
                log.warning("judgements are not shared for now: %s", error)
            self._is_away = True
            return
        self._is_away = False
        for arrival, one in zip(judged, entered, strict=True):
            arrival.entered = one

    def _catch_up(self) -> None:
        try:
            while waiting := self._unshared.take_unshared(GROUP):
                self.ledger.enter([event for _, event in waiting], again=True)
                self._unshared.forget_unshared([seq for seq, _ in waiting])
                if not self._queue.empty():
                    return  # whoever waits for an answer goes first
        except FeedbackError:
            return  # still away; or the disk is full, and they are entered once more
