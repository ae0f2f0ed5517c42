"""Stand-ins of vLLM servers that are started, killed and started again, and one engine over several.

Looks are called for in these tests and not left to threads, so nothing depends on time.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from burnish.serving.engine import Delta, Engine, Request, StubEngine
from burnish.serving.engine.vllm import Patience, VllmEngine

from .standin import Standin

Server = Standin[StubEngine]
Pool = Callable[..., VllmEngine]  # of servers
Start = Callable[..., Server]
MakeAdapter = Callable[[str], Path]
NEVER = 3600.0  # between looks of the threads


@pytest.fixture
def start() -> Iterator[Start]:
    """Start stand-ins; those that still run are stopped at the end."""
    started: list[Server] = []

    def one(port: int = 0, **options: Any) -> Server:
        server = Standin(StubEngine(**options), port=port)
        server.start()
        started.append(server)
        return server

    yield one
    for server in started:
        if server.runs:
            server.kill()


@pytest.fixture
def pair(start: Start) -> list[Server]:
    return [start(), start()]


@pytest.fixture
def pool(tiny_model: Path) -> Pool:
    def over(servers: list[Server], **options: Any) -> VllmEngine:
        options.setdefault("patience", Patience(between_looks=NEVER, look=5.0))
        urls = [server.url for server in servers]
        return VllmEngine(urls, tiny_model, key="key", **options)

    return over


@pytest.fixture
def adapter(tmp_path: Path) -> MakeAdapter:
    def make(weights: str) -> Path:
        folder = tmp_path / weights
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
        (folder / "adapter_model.safetensors").write_text(weights)
        return folder

    return make


def served(servers: list[Server]) -> list[int]:
    return [len(server.engine.requests) for server in servers]


def up(engine: VllmEngine) -> list[bool]:
    return [bool(server.up) for server in engine.stats().servers]


async def first_delta(engine: Engine, request: Request) -> tuple[Delta, Any]:
    stream = engine.generate(request)
    return await anext(stream), stream  # type: ignore[arg-type]
