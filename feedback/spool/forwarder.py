"""Carries events from the spool to the stream, in order, for as long as it takes.

One thread owns the stream's client: publish a bounded batch, each event a StreamRecord, wait for
the acknowledgement, delete those rows, and go on after a moment, in which a busy service fills the
next batch: a batch of one costs almost what one of twenty does. A stream that is down costs the HTTP
side nothing: the thread tries again with growing pauses while the spool holds what came in. Killed
between acknowledgement and deletion, it publishes those events again at the next start: consumers
drop repeated event ids.
"""

import logging
import random
import threading
from collections.abc import Sequence

from burnish.feedback.errors import RecordRefused, SpoolError, StreamError
from burnish.feedback.spool.spool import Spool, Spooled
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.telemetry import messaging

log = logging.getLogger(__name__)

IN_FLIGHT = 1000


class Forwarder:
    def __init__(
        self,
        spool: Spool,
        stream: EventStream,
        *,
        batch: int = IN_FLIGHT,
        moment_s: float = 0.1,
        first_pause_s: float = 0.1,
        longest_pause_s: float = 10.0,
        idle_wait_s: float = 1.0,
    ) -> None:
        self._spool = spool
        self._stream = stream
        self._batch = batch
        self._moment_s = moment_s
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._idle_wait_s = idle_wait_s
        self._acknowledged: list[int] = []  # by the stream, still to be deleted
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)
        self.last_error: str | None = None
        """Why the stream does not take events at present; None while it does."""
        self.published = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End after the batch in flight. What still waits goes out at the next start."""
        self._stopping.set()
        self._spool.wake()
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def vital(self) -> threading.Thread:
        """The thread without which nothing reaches the stream."""
        return self._thread

    def lag(self) -> int:
        """Events accepted that the stream does not have yet."""
        return self._spool.waiting()

    def _run(self) -> None:
        failures, ready = 0, False
        while not self._stopping.is_set():
            try:
                if not ready:
                    self._stream.ensure_topics()
                    ready = True
                self._delete_acknowledged()
                moved = self._forward(self._spool.take(self._batch))
            except Exception as error:
                # The thread's top loop: without it everything accepted would wait for ever.
                expected = isinstance(error, StreamError | SpoolError)
                if self.last_error is None or not expected:
                    log.warning("events wait in the spool: %s", error, exc_info=not expected)
                self.last_error = str(error) if expected else f"{type(error).__name__}: {error}"
                failures, ready = failures + 1, False
                self._stopping.wait(self._pause(failures))
                continue
            if self.last_error is not None:
                log.info("the stream takes events again")
            failures, self.last_error = 0, None
            if not moved:
                # An arrival ends the wait at once; the timeout is for what was missed.
                self._spool.wait(self._idle_wait_s)
            elif moved < self._batch:
                self._stopping.wait(self._moment_s)
        self._stream.close()

    def _forward(self, batch: Sequence[Spooled]) -> int:
        if not batch:
            return 0
        records = [spooled.record for spooled in batch]
        try:
            with messaging.sending(self._stream.system, records):
                self._stream.publish(records)
        except RecordRefused as refused:
            # Never to be taken: out of the way of those behind it, but not lost.
            seqs = [s.seq for s in batch if s.record is refused.record]
            if not seqs:
                raise
            log.error("put aside: %s", refused)
            for seq in seqs:
                self._spool.refuse(seq, str(refused))
            return len(seqs)
        self._acknowledged = [spooled.seq for spooled in batch]
        self.published += len(batch)
        self._delete_acknowledged()
        return len(batch)

    def _delete_acknowledged(self) -> None:
        """Apart from publishing, so that a disk without room for it repeats only this."""
        if self._acknowledged:
            self._spool.delete(self._acknowledged)
            self._acknowledged = []

    def _pause(self, failures: int) -> float:
        """Seconds to the next attempt: doubling, capped, and spread so that many instances do
        not all come back in the same moment."""
        pause = min(self._longest_pause_s, self._first_pause_s * 2 ** min(failures - 1, 30))
        return pause * random.uniform(0.5, 1.0)
