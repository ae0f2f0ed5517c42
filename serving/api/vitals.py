"""Vital parts: threads and tasks that run for as long as the process serves.

One that has ended before `stop` has failed, whatever its reason. Readiness and health then say which part
it was, and the process ends so that a new one takes its place. Left out: why a part fails, and
starting one again in place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, Protocol

LOOK_S = 0.2  # how often the parts are looked at


class Part(Protocol):
    """What has a vital thread or task. None: not started, stopped on purpose, or none at all."""

    @property
    def vital(self) -> threading.Thread | asyncio.Task[Any] | None: ...


class Vitals:
    """The vital parts of a process by name."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)
        self._watching = False

    def start(self) -> None:
        """From now on a part that has ended has failed."""
        self._watching = True

    def stop(self) -> None:
        """From now on parts may end."""
        self._watching = False

    def ended(self) -> list[str]:
        """A line for each part that has failed."""
        if not self._watching:
            return []
        found = ((name, _end_of(part.vital)) for name, part in self._parts.items())
        return [f"{name} has failed: {why}" for name, why in found if why is not None]

    async def wait(self) -> list[str]:
        """`ended` as soon as that is not empty."""
        while not (ended := self.ended()):  # noqa: ASYNC110 - threads set no event when they end
            await asyncio.sleep(LOOK_S)
        return ended


def _end_of(vital: threading.Thread | asyncio.Task[Any] | None) -> str | None:
    """Why it ended, as far as it is known here; None while it runs."""
    if isinstance(vital, threading.Thread):
        return None if vital.is_alive() else "its thread has ended, the log says why"
    if vital is None or not vital.done():
        return None
    error = None if vital.cancelled() else vital.exception()
    return "its task has ended" if error is None else f"{type(error).__name__}: {error}"
