"""Two replicas behind a real nginx, restarted one after the other under load: no request fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import openai
import pytest
from burnish.ops.bench.lib.fleet_parts import find_nginx, nginx_conf, nginx_globals

from tests.conftest import free_port, missing
from tests.waiting import eventually

REPLICA = """
import asyncio, sys
from functools import partial
from burnish.serving import __main__ as entry, server
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry

settings = entry.read_settings()
server.Service.build = partial(server.Service.build, registry=StubRegistry())
with entry.bind(settings) as listening:
    asyncio.run(server.serve(settings, StubEngine(lambda _: "x" * 60, pace_s=0.01), listening))
"""


class Replica:
    def __init__(self, folder: Path, redis_url: str) -> None:
        self.port, self._log = free_port(), folder.with_suffix(".log")
        self._environment = {
            **{name: value for name, value in os.environ.items() if "BURNISH_" not in name},
            "BURNISH_PORT": str(self.port),
            "BURNISH_DATA_DIR": str(folder),
            "BURNISH_REDIS_URL": redis_url,
            "BURNISH_FLEET": "true",
            "BURNISH_SECRET": "the same on both",
        }
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", REPLICA], env=self._environment, stdout=log, stderr=log
            )
        eventually(self._is_ready, 120)

    def restart(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0
        self.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _is_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False


@pytest.fixture
def replicas(tmp_path: Path, redis_url: str) -> Iterator[list[Replica]]:
    made = [Replica(tmp_path / name, redis_url) for name in "ab"]
    for replica in made:
        replica.start()
    yield made
    for replica in made:
        replica.kill()


@pytest.fixture
def balancer(tmp_path: Path, replicas: list[Replica]) -> Iterator[str]:
    nginx = find_nginx()
    if nginx is None:
        missing("nginx is not installed (Debian: nginx)")
    port, conf = free_port(), tmp_path / "nginx.conf"
    conf.write_text(nginx_conf(port, [replica.url for replica in replicas]))
    argv = [
        nginx,
        "-e",
        "stderr",
        "-p",
        str(tmp_path),
        "-c",
        str(conf),
        "-g",
        nginx_globals(tmp_path),
    ]
    process = subprocess.Popen(argv)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz").status_code == 200
        return False

    eventually(answers, 30)
    yield url
    process.terminate()
    process.wait(20)


class Client(threading.Thread):
    """Streams an answer, votes on it, reads the vote back; again and again, without a retry."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._openai = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
        self.failures: list[str] = []
        self.rounds, self.stopping = 0, False

    def run(self) -> None:
        while not self.stopping:
            try:
                self._round()
                self.rounds += 1
            except (openai.APIError, httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _round(self) -> None:
        asked = [{"role": "user", "content": "Hi"}]
        stream = self._openai.chat.completions.create(
            model="default",
            messages=asked,  # type: ignore[arg-type]
            stream=True,
        )
        chunks = list(stream)
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert said == "x" * 60, "broken off"
        body = {"interaction_id": chunks[0].id, "name": "thumbs", "value": "up"}
        given: dict = self._openai.post("/feedback", body=body, cast_to=dict[str, str])
        found: dict = self._openai.get(f"/feedback/{given['id']}", cast_to=dict[str, object])
        assert found["state"] == "stands"


@pytest.mark.timeout(300)
def test_no_request_fails_while_replicas_restart_in_turn(replicas: list[Replica], balancer: str):
    clients = [Client(balancer) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for replica in replicas:
            before = [client.rounds for client in clients]
            replica.restart()
            eventually(
                lambda b=before: all(c.rounds >= n + 3 for c, n in zip(clients, b, strict=True)), 60
            )
    finally:
        for client in clients:
            client.stopping = True
            client.join(60)
    assert [client.failures for client in clients] == [[], [], [], []]
