"""A time limit on other people's code: a checker or a generator that hangs costs one verdict, not the update.

By the timer's signal, for which Python looks between two instructions and within a regular expression. Left out:
threads other than the main one, and systems without that signal, where nothing is limited.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

SECONDS = 10.0


@contextmanager
def time_limit(seconds: float | None = None) -> Iterator[None]:
    """Raise TimeoutError in what runs inside once so many seconds (SECONDS) have passed. A timer that ran before
    runs on."""
    if current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    allowed = SECONDS if seconds is None else seconds

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {allowed:g} seconds")

    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, allowed)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        if left:
            rest = max(1e-3, left - (time.monotonic() - began))
            signal.setitimer(signal.ITIMER_REAL, rest, interval)
