"""Beat's schedule: when each task was last sent, kept in Redis beside the queues it fills.

Celery's own scheduler keeps it in a file of pickles, which a crash can leave unreadable. A beat that
starts anew goes on where the last one stood. While Redis is away nothing can be sent: what was due is
tried again every second, and not an interval later. Run it with `celery beat`; app.py names it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from burnish.feedback.contract import BEAT_KEY
from burnish.feedback.redis_clients import open_client
from celery.beat import ScheduleEntry, Scheduler, SchedulingError

log = logging.getLogger(__name__)

RETRY_S = 1.0


class RedisScheduler(Scheduler):
    """`BEAT_KEY` is a hash: an entry's name -> seconds since the epoch when it was last sent."""

    @property
    def _entries(self) -> dict[str, Any]:
        return self.schedule or {}

    def setup_schedule(self) -> None:
        super().setup_schedule()
        self._redis = open_client(
            self.app.conf.burnish_redis_url, socket_timeout=5, socket_connect_timeout=2
        )
        try:
            sent: Any = self._redis.hgetall(BEAT_KEY)
        except redis.RedisError as error:
            log.warning("the last ticks are not known, intervals begin now: %s", error)
            return
        now = datetime.now(UTC)
        for name, entry in self._entries.items():
            at = sent.get(name.encode())
            if at is not None:
                # A clock that was ahead must not put the next tick off.
                entry.last_run_at = min(now, datetime.fromtimestamp(float(at), UTC))

    def apply_async(self, entry: ScheduleEntry, *arguments: Any, **options: Any) -> Any:
        try:
            return super().apply_async(entry, *arguments, **options)
        except SchedulingError:
            schedule: Any = entry.schedule  # all of ours are intervals
            due = datetime.now(UTC) + timedelta(seconds=RETRY_S)
            self._entries[str(entry.name)].last_run_at = due - schedule.run_every
            self._heap = None  # to be made anew, with this entry where it belongs now
            raise

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """As the base's, but a Redis that is away is told in one line."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            log.warning("%s (tried again in %.0f s)", error, RETRY_S)

    def sync(self) -> None:
        sent: dict[Any, Any] = {
            name: e.last_run_at.timestamp() for name, e in self._entries.items()
        }
        try:
            self._redis.hset(BEAT_KEY, mapping=sent)
        except redis.RedisError as error:
            # Sending fails too, which is told.
            log.debug("the last ticks cannot be kept: %s", error)
