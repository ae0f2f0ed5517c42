"""A Redis for one benchmark: on a free port, in memory alone, gone at the end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from burnish.ops.settings import free_port
from burnish.ops.supervisor.services import redis_binary


@contextmanager
def private_redis(folder: Path, seconds: float = 30.0) -> Iterator[str]:
    """Its URL. Raises RuntimeError where it does not answer within so many seconds."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    server = subprocess.Popen([redis_binary(), *options], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        deadline = time.monotonic() + seconds
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Redis did not start")
            time.sleep(0.02)
        yield url
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
