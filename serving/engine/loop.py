"""The engine's loop: `calls -> arrivals -> step -> deliver`, over and over.

Everything that touches the model happens in the loop, within a step or between two; other threads only
queue work for it. `start` gives it a thread; without one `run_until_idle` runs it in the caller's.
If the loop itself fails, all that wait for it are told, it takes no more work, and its thread ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import torch
from burnish.serving.engine.core import EngineCore
from burnish.serving.engine.sequence import Sequence
from burnish.serving.engine.streams import Deliveries
from burnish.serving.engine.types import EngineFailed, EngineStopped

log = logging.getLogger(__name__)


class EngineLoop:
    """Runs `core`. `lock` guards what is queued for it; whoever queues holds it."""

    def __init__(self, core: EngineCore, deliveries: Deliveries, threads: int | None) -> None:
        self.core = core
        self.deliveries = deliveries
        self.lock = threading.Condition()
        self.thread: threading.Thread | None = (
            None  # of the loop; left in place where it has failed
        )
        self._threads = threads
        self._inbox: list[Sequence] = []
        self._calls: list[tuple[Callable[[], None], Future[None]]] = []
        self._running = threading.Lock()  # held while steps are run
        self._stopping = False
        self._accepting = True
        self._aborting = False
        self._failure: Exception | None = None  # what ended the loop

    # -- what others ask of it -----------------------------------------------------------------

    def check_accepting(self) -> None:
        """Raises EngineFailed, or EngineStopped."""
        self._check_alive()
        if not self._accepting:
            raise EngineStopped("the engine is shutting down")

    def _check_alive(self) -> None:
        if self._failure is not None:
            raise _failed(self._failure)

    @property
    def waiting(self) -> int:
        """Sequences that are not running yet."""
        return len(self._inbox) + self.core.scheduler.num_waiting

    def put(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences. The caller holds the lock and has checked `check_accepting`."""
        self._inbox += sequences
        self.lock.notify_all()

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence before the next step."""
        with self.lock:
            sequence.cancelled = True
            self.lock.notify_all()

    def between_steps(self, call: Callable[[], None]) -> None:
        """Run `call` between two steps, and wait for it. Raises what it raises, and EngineFailed."""
        self.queue(call).result()

    def queue(self, call: Callable[[], None]) -> Future[None]:
        """Have `call` run between two steps. The future is not to be cancelled. Raises EngineFailed."""
        done: Future[None] = Future()
        with self.lock:
            self._check_alive()
            if self.thread is None or threading.current_thread() is self.thread:
                call()
                done.set_result(None)
            else:
                self._calls.append((call, done))
                self.lock.notify_all()
        return done

    # -- start and stop ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Idempotent."""
        with self.lock:
            if self.thread is not None:
                return
            self._stopping, self._aborting, self._accepting = False, False, True
            self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
            self.thread.start()

    async def stop(self, drain: bool) -> None:
        """Take no more work; finish the running and waiting sequences, or cancel them."""
        with self.lock:
            self._accepting = False
            self._stopping = True
            self._aborting = not drain
            thread = self.thread
            self.lock.notify_all()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    # -- running -------------------------------------------------------------------------------

    def run_until_idle(self) -> None:
        """Run in this thread, as long as there is anything to do."""
        with self._running, self._failing_all():
            while self._failure is None and self._run_once():
                pass

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with self._running, self._failing_all():
            while True:
                with self.lock:
                    while not (self._inbox or self._calls or not self.core.scheduler.idle):
                        if self._stopping:
                            self.thread = None
                            return
                        self.lock.wait()
                self._run_once()

    def _run_once(self) -> bool:
        """Queued calls, new sequences, and one step; whether there may be more to do."""
        with self.lock:
            calls, self._calls = self._calls, []
            arrivals, self._inbox = self._inbox, []
            for sequence in arrivals:
                self.core.add(sequence)
        for call, done in calls:
            try:
                call()
                done.set_result(None)
            except BaseException as error:  # noqa: BLE001 - belongs to the thread that asked
                done.set_exception(error)
        if self._aborting:
            for sequence in (*self.core.scheduler.waiting, *self.core.scheduler.running):
                sequence.cancelled = True
        started = time.monotonic()
        self.core.step()
        self.deliveries.deliver(started)
        return not self.core.scheduler.idle or bool(self._inbox)

    @contextmanager
    def _failing_all(self) -> Iterator[None]:
        """Around the loop: its failure reaches everybody who waits for it."""
        try:
            yield
        except Exception as error:  # the thread's top loop
            log.critical("the engine has failed", exc_info=True)
            self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        with self.lock:
            self._failure, self._accepting = error, False
            calls, self._calls = self._calls, []
            arrivals, self._inbox = self._inbox, []
        for _, done in calls:
            done.set_exception(_failed(error))
        queue = self.core.scheduler
        for sequence in (*arrivals, *queue.running, *queue.waiting):
            try:
                sequence.sink(_failed(error))
            except Exception:  # one that cannot be told must not keep the others waiting
                log.exception("request %s cannot be told", sequence.request.id)
        self.deliveries.deliver(time.monotonic())


def _failed(error: Exception) -> EngineFailed:
    failure = EngineFailed(f"the engine has failed: {error}")
    failure.__cause__ = error
    return failure
