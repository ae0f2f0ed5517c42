"""Deltas from the engine's thread to the event loops that read them.

A stream's deltas are collected and delivered together, so that many short steps cost its readers no
more than one long one. First tokens and ends are delivered at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict

from burnish.serving.engine.runner import BURST_S
from burnish.serving.engine.types import Delta

log = logging.getLogger(__name__)

MANY = 16  # streams


class DeltaStream:
    """One request's deltas, read in the event loop that made the stream."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._delivered: list[Delta | Exception] = []
        self._waiter: asyncio.Future[None] | None = None
        self._begun = False
        self._error: Exception | None = None  # that ended the request

    def urgent(self, newest: Delta | Exception) -> bool:
        """Whether `newest` begins or ends the answer."""
        begins, self._begun = not self._begun, True
        return begins or isinstance(newest, Exception) or newest.finish_reason is not None

    def put(self, items: list[Delta | Exception]) -> None:
        """Called in the event loop."""
        self._delivered += items
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Delta:
        """All deltas since the last call, joined; after the last ones, raises the error that ended the
        request."""
        if not self._delivered and self._error is None:
            self._waiter = self.loop.create_future()
            await self._waiter
        items, self._delivered = self._delivered, []
        deltas = [item for item in items if isinstance(item, Delta)]
        if len(deltas) < len(items):  # an error ends the request
            self._error = next(item for item in items if isinstance(item, Exception))
        if self._error is not None and not deltas:
            raise self._error
        return Delta.join(deltas)


class Deliveries:
    """Deltas not yet delivered. Used by the thread that runs the steps."""

    def __init__(self) -> None:
        self._pending: defaultdict[DeltaStream, list[Delta | Exception]] = defaultdict(list)
        self._last_flush = 0.0

    def add(self, stream: DeltaStream, item: Delta | Exception) -> None:
        self._pending[stream].append(item)

    def deliver(self, step_started: float) -> None:
        """Deliver what is due after a step that began at `step_started`, waking each loop once.

        All streams are due when another such step would make one wait longer than a burst takes, or up
        to twice as long where there are many: beside so many readers, each delivery slows the steps.
        """
        if not self._pending:
            return
        now = time.monotonic()
        longest = BURST_S * min(max(1.0, len(self._pending) / MANY), 2.0)
        flush = now - self._last_flush + (now - step_started) >= longest
        if flush:
            self._last_flush = now
        due: defaultdict[asyncio.AbstractEventLoop, list[tuple[DeltaStream, list]]]
        due = defaultdict(list)
        for stream, items in list(self._pending.items()):
            if flush or stream.urgent(items[-1]):
                due[stream.loop].append((stream, self._pending.pop(stream)))
        for loop, ready in due.items():
            try:
                loop.call_soon_threadsafe(_put, ready)
            except RuntimeError:  # the loop is closed: there is no reader
                log.debug("dropped the deltas of %d streams of a closed event loop", len(ready))


def _put(ready: list[tuple[DeltaStream, list[Delta | Exception]]]) -> None:
    for stream, items in ready:
        stream.put(items)
