"""The spans of an update: a trace of its own, linked to the votes it learns from, and told again in theirs.

So the trace of one vote leads from its request to the version that it helped to make. Left out: single
training steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.trail import Trail


@dataclass(frozen=True)
class Stage:
    """A part of an update; seconds since the epoch."""

    name: str
    began: float
    ended: float
    attributes: dict[str, Any]
    error: str | None


class UpdateTrace:
    """Use `stage` around each part, inside `whole`."""

    def __init__(self, trail: Trail, policy: str, events: Sequence[str]) -> None:
        self._trail, self._policy = trail, policy
        self._parents = trail.follow(events)  # of the votes that are traced
        self._stages: list[Stage] = []

    @contextmanager
    def whole(self) -> Iterator[None]:
        name, began = f"update {self._policy}", time.time()
        with tracing.span(name, links=self._parents.values()):
            own, error = list(tracing.carried().values()), None
            try:
                yield
            except BaseException as failure:
                error = type(failure).__name__
                raise
            finally:
                self._tell_votes(Stage(name, began, time.time(), {}, error), own)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Yields the attributes, to be filled."""
        began, attributes, error = time.time(), {}, None
        with tracing.span(name) as span:
            try:
                yield attributes
            except BaseException as failure:
                error = type(failure).__name__
                raise
            finally:
                span.set_attributes(attributes)
                self._stages.append(Stage(name, began, time.time(), attributes, error))

    def _tell_votes(self, whole: Stage, links: Sequence[str]) -> None:
        left: dict[str, str] = {}
        for event, parent in self._parents.items():
            told = _past(whole, parent, links)
            for stage in self._stages:
                _past(stage, told)
            if told is not None:
                left[event] = told
        self._trail.leave(left)


def _past(stage: Stage, parent: str | None, links: Sequence[str] = ()) -> str | None:
    return tracing.past(
        stage.name,
        stage.began,
        stage.ended,
        stage.attributes,
        parent=parent,
        links=links,
        error=stage.error,
    )
