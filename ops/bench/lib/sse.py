"""A low-overhead SSE client: one connection, one stream at a time, parsed after its end.

It shares the machine with the service that it measures, so it only sends requests, stores what
arrives and detects the end of a stream.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from burnish.ops.bench.lib.service import BenchError

END = b"\r\n0\r\n\r\n"  # of a chunked body
EVENT = b"data: {"
# How the last event of each API looks, and where the usage counts tokens (the last count stands).
LAST_EVENT = re.compile(rb"data: \[DONE\]|event: (response\.(completed|incomplete)|message_stop)")
USAGE = re.compile(rb'"(?:completion|output)_tokens": ?(\d+)')


@dataclass
class Streamed:
    """One streamed answer: start and arrival times in seconds, and number of tokens."""

    began: float
    arrivals: list[float] = field(default_factory=list)
    tokens: int = 0

    def tokens_between(self, began: float, ended: float) -> float:
        """Of its tokens, as many as of its pieces have arrived in that time."""
        arrived = sum(began <= at < ended for at in self.arrivals)
        return self.tokens * arrived / max(len(self.arrivals), 1)


class Client(asyncio.Protocol):
    """One connection to a service."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._transport: Any = None

    @classmethod
    async def connect(cls, url: str) -> Client:
        at = urlsplit(url).netloc
        host, _, port = at.rpartition(":")
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(at), host, int(port))
        return client

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def stream(self, path: str, body: dict[str, Any]) -> Streamed:
        """POST and read to the end. Raises BenchError with the response's text if it is no stream."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self._received = bytearray()
        self._done = asyncio.get_running_loop().create_future()
        self._stream = Streamed(time.perf_counter())
        self._transport.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await self._done
        self._stream.tokens = _tokens(bytes(self._received))
        return self._stream

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._stream.arrivals or EVENT in data:
            self._stream.arrivals.append(time.perf_counter())
        if self._done.done():
            return
        if self._received.endswith(END):
            self._done.set_result(None)
        elif not self._stream.arrivals and (refusal := _refusal(bytes(self._received))):
            self._done.set_exception(BenchError(refusal))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(
                BenchError(f"the connection is lost: {exc or self._received!r}")
            )

    def close(self) -> None:
        self._transport.close()


def _refusal(received: bytes) -> str:
    """Status line and body of a complete response that is no stream; else empty."""
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if not found or length is None or len(body) < int(length[1]):
        return ""
    return f"{head.splitlines()[0].decode()}: {body.decode()}"


def _tokens(received: bytes) -> int:
    """Tokens of the answer by the stream's usage. BenchError if usage or last event is missing."""
    counts = USAGE.findall(received)
    if not counts or LAST_EVENT.search(received) is None:
        raise BenchError(f"the stream broke off: {received[-2000:].decode(errors='replace')}")
    return int(counts[-1])
