"""Votes as fast as replicas take them: keep-alive connections, each with one request in flight.

Plain asyncio protocols with requests made beforehand, so that the load generator costs as little as it can.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

BLANK = b"\r\n\r\n"


@dataclass
class VoteLoad:
    """What was acknowledged (202), what was refused, and the seconds that each request took."""

    acknowledged: list[str] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.acknowledged) / (self.ended - self.began)

    def percentile_ms(self, share: float) -> float:
        return 1e3 * float(np.percentile(self.seconds, share)) if self.seconds else float("nan")


class _Connection(asyncio.Protocol):
    def __init__(self, host: str, key: str, load: VoteLoad, bodies: _Bodies) -> None:
        self._head = (
            f"POST /v1/feedback HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._load, self._bodies = load, bodies
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._ids: list[str] = []
        self._sent = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, rest = self._buffer.partition(BLANK)
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        now = time.perf_counter()
        self._buffer = rest[length:]
        if head.startswith(b"HTTP/1.1 202"):
            self._load.acknowledged += self._ids
            self._load.seconds.append(now - self._sent)
        else:
            self._load.refused.append(rest[:length])
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        assert self._transport is not None
        made = self._bodies.next()
        if made is None:
            self._transport.close()
            return
        self._ids, body = made
        self._sent = time.perf_counter()
        self._transport.write(b"%s%d%s%s" % (self._head, len(body), BLANK, body))


class _Bodies:
    """Votes of people nobody else is, on answers in turn, until the time is over."""

    def __init__(self, interactions: Sequence[str], batch: int, prefix: str, until: float) -> None:
        self._interactions, self._batch, self._prefix = interactions, batch, prefix
        self._until, self._count = until, 0

    def next(self) -> tuple[list[str], bytes] | None:
        if time.perf_counter() >= self._until:
            return None
        votes = [self._vote() for _ in range(self._batch)]
        body = json.dumps(votes if self._batch > 1 else votes[0]).encode()
        return [vote["id"] for vote in votes], body

    def _vote(self) -> dict[str, str]:
        number, self._count = self._count, self._count + 1
        return {
            "id": f"{self._prefix}-{number}",
            "interaction_id": self._interactions[number % len(self._interactions)],
            "user": f"{self._prefix}-user-{number}",
            "name": "thumbs",
            "value": "up" if number % 3 else "down",
        }


async def vote(
    urls: Sequence[str], key: str, interactions: Sequence[str], *, in_flight: int, seconds: float,
    batch: int = 1, prefix: str,
) -> VoteLoad:  # fmt: skip
    """`in_flight` requests at a time, spread over the replicas, each of `batch` votes."""
    load = VoteLoad()
    load.began = time.perf_counter()
    bodies = _Bodies(interactions, batch, prefix, load.began + seconds)
    loop = asyncio.get_running_loop()
    made = []
    for number in range(in_flight):
        at = urlsplit(urls[number % len(urls)])
        _, connection = await loop.create_connection(
            lambda at=at: _Connection(at.netloc, key, load, bodies),
            at.hostname or "127.0.0.1",
            at.port or 80,
        )
        made.append(connection.done)
    await asyncio.gather(*made)
    load.ended = time.perf_counter()
    return load
