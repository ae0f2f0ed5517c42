"""The feedback ledger that replicas of serving share: ledger.py's rules, on the Redis they have in common.

All of a tenant's rows lie under one hash tag, so on one node of a cluster, and are changed by one script.
The last by (time, revision, id) stands in whatever order entries arrive, which is the learner's rule too
(judgements.py); so what a replica accepted while Redis was away is entered afterwards, and twice does no harm.

It is what replicas tell each other, not the record: that is each replica's spool, the stream, and the
learner's database. A Redis that fails over may forget its last moments, and with them what was given
then; a vote whose acceptance was cut short may be shown until it is sent again. Left out: waiting for
replicas of Redis.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import redis
from burnish.feedback.contract import LEDGER_PREFIX
from burnish.feedback.errors import LedgerUnavailable
from burnish.feedback.events import FeedbackEvent, RetractionEvent, microseconds, time_of
from burnish.feedback.redis_clients import open_client
from burnish.feedback.spool.ledger import UNSAID, LedgerRow, Status
from redis.backoff import NoBackoff
from redis.retry import Retry

DAY_S = 86400
PATIENCE_S = 1.0  # a vote waits so long for a Redis that hangs
PAUSE_S = 2.0  # and then it is left alone for so long

Judged = FeedbackEvent | RetractionEvent


@dataclass(frozen=True)
class Entered:
    """An event as it was entered, and what that meant."""

    event: Judged
    status: Status


class SharedLedger:
    """Calls block, from any thread, and raise LedgerUnavailable; at once for `PAUSE_S` after a failure."""

    def __init__(
        self, url: str, keep_days: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url, self._clock = url, clock
        self._keep_s = str(int(keep_days * DAY_S))
        self._opening = threading.Lock()
        self._client: Any = None
        self._script: Any = None
        self._away_until = 0.0
        self.last_error: str | None = None
        """Why it cannot be asked at present."""

    def enter(self, events: Sequence[Judged], *, again: bool = False) -> list[Entered]:
        """Enter events that arrive now, or, `again`, ones that were accepted with the time they have."""
        by_tenant: dict[str, list[int]] = defaultdict(list)
        for place, event in enumerate(events):
            by_tenant[event.tenant].append(place)
        entered: dict[int, Entered] = {}
        with self._asked():
            for places in by_tenant.values():
                own = [events[place] for place in places]
                entered |= zip(places, self._enter(own, again), strict=True)
        return [entered[place] for place in range(len(events))]

    def find(self, tenant: str, feedback_id: str) -> LedgerRow | None:
        """As `Ledger.find`."""
        with self._asked():
            row = self._client.hgetall(_row_key(tenant, feedback_id))
            if b"body" not in row:
                return None
            event = _event(row)
            if row[b"state"] == b"retracted":
                return LedgerRow(event, "retracted")
            last = self._client.hget(row[b"on"], row[b"place"])
        return LedgerRow(event, "stands" if last == _mark(row, event.id) else "superseded")

    def on(self, tenant: str, target: str) -> list[FeedbackEvent]:
        """As `Ledger.on`."""
        with self._asked():
            last = self._client.hgetall(_on_key(tenant, target))
            pipe = self._client.pipeline(transaction=False)
            for mark in last.values():
                pipe.hgetall(_row_key(tenant, mark.decode().split(" ", 2)[2]))
            rows = pipe.execute() if last else []
        standing = [
            _event(row)
            for mark, row in zip(last.values(), rows, strict=True)
            # One that was given again elsewhere, or taken back, has left its mark here.
            if row.get(b"state") == b"given" and _mark(row, mark.decode().split(" ", 2)[2]) == mark
        ]
        return sorted(standing, key=lambda event: (event.time, event.id))

    def count(self, tenant: str, user: str) -> int:
        """How many of an end user's judgements it holds."""
        with self._asked():
            return len(self._of_user(tenant, user))

    def forget(self, tenant: str, user: str) -> int:
        """Delete an end user's judgements; how many. It looks through all of the tenant's."""
        with self._asked():
            found = self._of_user(tenant, user)
            for key, row in found.items():
                self._client.hdel(row[b"on"], row[b"place"])
                self._client.delete(key)
        return len(found)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _of_user(self, tenant: str, user: str) -> dict[bytes, dict[bytes, bytes]]:
        found = {}
        for key in self._client.scan_iter(match=_all_rows(tenant), count=1000):
            row = self._client.hgetall(key)
            if b"body" in row and _event(row).user == user:
                found[key] = row
        return found

    def _enter(self, events: Sequence[Judged], again: bool) -> list[Entered]:
        keys, arguments = [], [self._keep_s]
        for event in events:
            about = event.id if isinstance(event, FeedbackEvent) else event.feedback_id
            row = _row_key(event.tenant, about)
            on = _on_key(event.tenant, event.target) if isinstance(event, FeedbackEvent) else row
            keys += [row, on]
            arguments += _arguments(event, again)
        told = self._script(keys=keys, args=arguments)
        return [_entered(event, *answer) for event, answer in zip(events, told, strict=True)]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        if self._clock() < self._away_until:
            raise LedgerUnavailable(self.last_error or "it was away a moment ago")
        try:
            self._open()
            yield
        except redis.RedisError as error:
            self._away_until = self._clock() + PAUSE_S
            self.last_error = f"the Redis of BURNISH_REDIS_URL: {error}"
            raise LedgerUnavailable(self.last_error) from error
        self.last_error = None

    def _open(self) -> None:
        with self._opening:
            if self._client is None:
                client = open_client(
                    self._url,
                    socket_timeout=PATIENCE_S,
                    socket_connect_timeout=PATIENCE_S,
                    retry=Retry(NoBackoff(), 1),  # once, for a connection gone stale
                )
                text = (files("burnish.feedback.spool") / "shared_ledger.lua").read_text()
                self._client, self._script = client, client.register_script(text)


def _arguments(event: Judged, again: bool) -> list[str]:
    kind = " again" if again else ""
    at = str(microseconds(event.time))
    if isinstance(event, RetractionEvent):
        return [f"retract{kind}", at, "0", event.feedback_id, "", "", ""]
    place = json.dumps([event.choice if event.session_id is None else 0, event.user, event.name])
    said = hashlib.sha256(canonical(event)).hexdigest()[:32]
    body = event.model_dump_json(exclude_none=True)
    return [f"judge{kind}", at, str(event.revision), event.id, place, said, body]


def canonical(event: FeedbackEvent) -> bytes:
    """What makes it the same judgement when it is heard again."""
    if not event.metadata:  # pydantic writes the fields in their order, and much faster
        return event.model_dump_json(exclude=UNSAID).encode()
    return json.dumps(event.model_dump(mode="json", exclude=UNSAID), sort_keys=True).encode()


def _entered(event: Judged, at: bytes, revision: bytes, status: bytes) -> Entered:
    change: dict[str, Any] = {}
    if int(at) != microseconds(event.time):
        change["time"] = time_of(int(at))
    if isinstance(event, FeedbackEvent) and int(revision) != event.revision:
        change["revision"] = int(revision)
    shown: Any = status.decode()
    return Entered(event.model_copy(update=change) if change else event, shown)


def _event(row: dict[bytes, bytes]) -> FeedbackEvent:
    event = FeedbackEvent.model_validate_json(row[b"body"])
    told = {"time": time_of(int(row[b"given"])), "revision": int(row[b"revision"])}
    return event.model_copy(update=told)


def _mark(row: dict[bytes, bytes], feedback_id: str) -> bytes:
    """What stands in the place of a judgement for as long as it is the last there."""
    return b"%s %s %s" % (row[b"given"], row[b"revision"], feedback_id.encode())


def _row_key(tenant: str, feedback_id: str) -> str:
    return f"{LEDGER_PREFIX}{{{tenant}}}:id:{feedback_id}"


def _all_rows(tenant: str) -> str:
    """A pattern for SCAN."""
    name = "".join(f"\\{c}" if c in "*?[]\\^" else c for c in tenant)
    return f"{LEDGER_PREFIX}{{{name}}}:id:*"


def _on_key(tenant: str, target: str) -> str:
    return f"{LEDGER_PREFIX}{{{tenant}}}:on:{target}"
