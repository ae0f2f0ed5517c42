"""The service of the page's benchmark, a process of its own: everything real but the engine, which says one answer.

`python -m burnish.ops.bench.lib.page.service TOKENS RATE`, with settings as serving takes them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from burnish.ops.bench.lib.page.long_answer import ScriptedEngine, long_answer
from burnish.ops.bench.lib.service import BenchError, stop
from burnish.ops.settings import free_port
from burnish.ops.supervisor.services import http_ok
from burnish.serving.__main__ import bind, read_settings
from burnish.serving.server import serve
from burnish.serving.settings import ServingSettings

START_S = 60.0


@contextmanager
def page_service(
    folder: Path, registry: str, redis_url: str, tokens: int, rate: float
) -> Iterator[str]:
    """Run it over the data in `folder` and the registry at the URI; yields its URL. Raises BenchError where it
    does not start."""
    port = free_port()
    settings = {
        "BURNISH_DATA_DIR": str(folder),
        "BURNISH_MLFLOW_URI": registry,
        "BURNISH_REDIS_URL": redis_url,
        "BURNISH_PORT": str(port),
        "BURNISH_MAX_TOKENS": str(tokens),
    }
    command = [sys.executable, "-m", __name__, str(tokens), str(rate)]
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log, stdout=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while not http_ok(f"{url}/healthz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the service did not start; see {folder / 'service.log'}")
            time.sleep(0.1)
        yield url
    finally:
        stop(process)


def main(tokens: int, rate: float) -> None:
    settings = read_settings(ServingSettings)
    with bind(settings) as listening:
        asyncio.run(serve(settings, ScriptedEngine(long_answer(tokens), rate), listening))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
