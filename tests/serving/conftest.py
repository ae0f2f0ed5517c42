"""A service on a real port, asked by the real `openai` client; the engine and registry are the shipped stubs.

MLflow takes long to import, so only the tests that are about it use it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
import uvicorn
from burnish.feedback.events import InteractionEvent, decode
from burnish.serving.api.service import Service
from burnish.serving.app import create_app
from burnish.serving.engine import Engine, StubEngine
from burnish.serving.registry import PolicyRegistry, StubRegistry, signing_keys
from burnish.serving.settings import ServingSettings


@dataclass
class Running:
    """A service that answers at `url`."""

    url: str
    engine: Any
    service: Service
    key: str = "unused"
    stop: Callable[[], None] = lambda: None

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    @property
    def async_openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    def with_key(self, key: str) -> Running:
        return replace(self, key=key)

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return httpx.request(method, self.url + path, headers=headers, timeout=30, **options)

    def say(self, text: str = "Hi", **options: Any) -> Any:
        messages: Any = [{"role": "user", "content": text}]
        return self.openai.chat.completions.create(
            model=options.pop("model", "default"), messages=messages, **options
        )

    def recorded(self) -> list[InteractionEvent]:
        events = [decode(spooled.record) for spooled in self.service.spool.take(1000)]
        return [event for event in events if isinstance(event, InteractionEvent)]


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables take seconds to create: once, then copied."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    MlflowClient(uri, uri).search_experiments()
    return folder


@pytest.fixture
def registry_uri(empty_registry: Path, tmp_path: Path) -> str:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    shutil.copy(empty_registry / "mlflow.db", folder)
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def registry(registry_uri: str, tmp_path: Path) -> PolicyRegistry:
    return PolicyRegistry(registry_uri, who="tester", keys=signing_keys(tmp_path))


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """A folder that is an adapter as far as the registry and the stub engine can tell."""

    def make(name: str = "adapter", weights: bytes = b"weights") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_bytes(weights + name.encode())
        return folder

    return make


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    """Redis at a port where nobody listens: chat and feedback must not need it."""
    return ServingSettings(
        data_dir=tmp_path / "data",
        redis_url=f"redis://127.0.0.1:{closed_port()}/0",
        poll_s=0.05,
    )


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Start services; all are stopped at the end of the test."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(
        settings: ServingSettings, engine: Engine, registry: PolicyRegistry | None = None
    ) -> Running:
        app = create_app(settings, engine, registry or StubRegistry())
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        listening = socket.socket(proto=socket.IPPROTO_TCP)  # as __main__.bind says
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        running.append((server, thread))

        def stop() -> None:
            server.should_exit = server.force_exit = True
            thread.join(20)
            assert not thread.is_alive()

        while not server.started and thread.is_alive():
            thread.join(0.01)
        assert server.started, "the service did not start"
        host, port = listening.getsockname()
        return Running(f"http://{host}:{port}", engine, app.state.service, stop=stop)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def running(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    return serve(settings, StubEngine("Hello there."))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
