"""How far a traced event has come: its id -> the last span made for it, in Redis.

An update learns from many votes at once, and a version is served hours after them: the trace of each
vote goes on from here. A trail is worth no more than the trace it continues, so it is kept for a week
and lost without harm. Written only for events that carry a trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import redis
from burnish.feedback.contract import TRAIL_PREFIX
from burnish.feedback.redis_clients import open_client
from burnish.feedback.telemetry import tracing

log = logging.getLogger(__name__)

KEPT_SECONDS = 7 * 24 * 3600
MAX_EVENTS = 256  # whose traces one update goes on with, the newest first


class Trail:
    """Does nothing while tracing is off, nor while Redis is away. Calls block."""

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def _redis(self) -> redis.Redis:
        return open_client(self._url, socket_timeout=5, socket_connect_timeout=2)

    def leave(self, spans: Mapping[str, str]) -> None:
        """Remember event id -> traceparent."""
        if not spans or not tracing.is_on():
            return

        def put(pipe: Any) -> None:
            for event, traceparent in spans.items():
                pipe.set(TRAIL_PREFIX + event, traceparent, ex=KEPT_SECONDS)

        self._run(put)

    def follow(self, events: Iterable[str]) -> dict[str, str]:
        """Event id -> traceparent, of the newest events that have one."""
        newest = list(events)[-MAX_EVENTS:]
        if not newest or not tracing.is_on():
            return {}

        def get(pipe: Any) -> None:
            for event in newest:
                pipe.get(TRAIL_PREFIX + event)

        found = zip(newest, self._run(get), strict=False)
        return {event: value.decode() for event, value in found if value}

    def _run(self, fill: Callable[[Any], None]) -> list[Any]:
        try:
            pipe = self._redis.pipeline(transaction=False)
            fill(pipe)
            return pipe.execute()
        except redis.RedisError as error:
            log.warning("traces end here: %s", error)
            return []
