"""The registry over each of its stores: MLflow on SQLite, an MLflow server, and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.serving.registry import PolicyRegistry, PolicyVersion, StubRegistry

from tests.conftest import free_port


@dataclass(frozen=True)
class Backend:
    """A registry, and what others may do to its store."""

    registry: PolicyRegistry
    reopened: Callable[[], PolicyRegistry]  # another process's view of the same store
    move_alias: Callable[[str, str, int], None]  # policy, alias, version; not through us
    tamper: Callable[[PolicyVersion], None]  # change the stored weights


@dataclass(frozen=True)
class Mlflow:
    uri: str
    artifacts: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """MLflow's own server, with as few processes as it allows."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                break
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail((folder / "log").read_text())
        time.sleep(0.1)
    yield Mlflow(f"http://127.0.0.1:{port}", folder / "artifacts")
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)
    log.close()


@pytest.fixture(params=["sqlite", "server", "stub"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "stub":
        return _in_memory()
    if request.param == "server":
        return _on_mlflow(request.getfixturevalue("server"))
    uri = request.getfixturevalue("registry_uri")
    return _on_mlflow(Mlflow(uri, tmp_path / "mlflow" / "artifacts"))


def _in_memory() -> Backend:
    registry = StubRegistry("tester")

    def reopened() -> StubRegistry:
        other = StubRegistry("somebody else")
        other.store = other._store = registry.store
        return other

    def tamper(version: PolicyVersion) -> None:
        files = registry.store.version(version.policy, version.version).files
        files["adapter_model.safetensors"] = b"evil"

    return Backend(registry, reopened, registry.store.set_alias, tamper)


def _on_mlflow(mlflow: Mlflow) -> Backend:
    def move_alias(policy: str, alias: str, version: int) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(mlflow.uri, mlflow.uri)
        client.set_registered_model_alias(policy, alias, str(version))

    def tamper(version: PolicyVersion) -> None:
        stored = mlflow.artifacts.rglob("adapter_model.safetensors")
        max(stored, key=lambda file: file.stat().st_mtime).write_bytes(b"evil")

    registry = PolicyRegistry(mlflow.uri, who="tester")
    return Backend(registry, lambda: PolicyRegistry(mlflow.uri), move_alias, tamper)


@pytest.fixture
def registry(backend: Backend) -> PolicyRegistry:
    return backend.registry


@pytest.fixture
def policy() -> str:
    """A name of its own for each test: the server is shared."""
    return f"policy-{uuid.uuid4().hex[:8]}"
