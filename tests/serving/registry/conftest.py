"""The registry over each of its stores: MLflow on SQLite, an MLflow server, and memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.serving.registry import PolicyRegistry, PolicyVersion, StubRegistry, signing_keys

from tests.conftest import free_port


@dataclass(frozen=True)
class Backend:
    """A registry, and what others may do to its store."""

    registry: PolicyRegistry
    reopened: Callable[[], PolicyRegistry]  # another process's view of the same store
    move_alias: Callable[[str, str, int], None]  # policy, alias, version; not through us
    tamper: Callable[[PolicyVersion], None]  # change the stored weights
    set_tag: Callable[[str, int, str, str], None]  # policy, version, key, value; not through us
    upload: Callable[[str, Path, Mapping[str, str]], int]  # a version with these tags; its number
    forget_key: Callable[[], None]  # as in a data folder from before versions were signed

    def upload_again(
        self,
        version: PolicyVersion,
        folder: Path,
        tags: Mapping[str, str],
        policy: str | None = None,
    ) -> int:
        """All of a version of ours, but for these tags, under a new number."""
        assert version.sha256
        assert version.signature
        copied = {
            "sha256": version.sha256,
            "base_sha256": version.base_sha256,
            "parent": str(version.parent),
            "lineage": json.dumps(version.lineage),
            "signature": version.signature,
        }
        if version.gate_report is not None:
            copied["gate"] = json.dumps(version.gate_report)
        return self.upload(policy or version.policy, folder, {**copied, **tags})


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
        return _on_mlflow(request.getfixturevalue("server"), tmp_path)
    uri = request.getfixturevalue("registry_uri")
    return _on_mlflow(Mlflow(uri, tmp_path / "mlflow" / "artifacts"), tmp_path)


def _in_memory() -> Backend:
    registry = StubRegistry("tester")
    keys = registry._keys

    def reopened() -> StubRegistry:
        other = StubRegistry("somebody else")
        other.store = other._store = registry.store
        other._keys = keys
        return other

    def tamper(version: PolicyVersion) -> None:
        files = registry.store.version(version.policy, version.version).files
        files["adapter_model.safetensors"] = b"evil"

    def upload(policy: str, folder: Path, tags: Mapping[str, str]) -> int:
        documents = {
            f"{key}.json": json.loads(tags[key]) for key in ("lineage", "gate") if key in tags
        }
        made = registry.store.create_version(policy, documents, folder, {}, {})
        registry.store.version(policy, made).tags.update(tags)
        return made

    def forget_key() -> None:
        keys._keyring = None

    store = registry.store
    return Backend(
        registry, reopened, store.set_alias, tamper, store.set_version_tag, upload, forget_key
    )


def _on_mlflow(mlflow: Mlflow, data_dir: Path) -> Backend:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow.uri, mlflow.uri)

    def move_alias(policy: str, alias: str, version: int) -> None:
        client.set_registered_model_alias(policy, alias, str(version))

    def set_tag(policy: str, version: int, key: str, value: str) -> None:
        client.set_model_version_tag(policy, str(version), key, value)

    def upload(policy: str, folder: Path, tags: Mapping[str, str]) -> int:
        ours = client.get_experiment_by_name("burnish")
        assert ours is not None
        run = client.create_run(ours.experiment_id).info
        client.log_artifacts(run.run_id, str(folder), "anywhere")
        source = f"runs:/{run.run_id}/anywhere"
        made = client.create_model_version(policy, source, run_id=run.run_id, tags=dict(tags))
        return int(made.version)

    def forget_key() -> None:
        (data_dir / "signing-key").unlink()

    def tamper(version: PolicyVersion) -> None:
        stored = mlflow.artifacts.rglob("adapter_model.safetensors")
        max(stored, key=lambda file: file.stat().st_mtime).write_bytes(b"evil")

    def opened(who: str) -> PolicyRegistry:
        return PolicyRegistry(mlflow.uri, who=who, keys=signing_keys(data_dir))

    registry, reopened = opened("tester"), lambda: opened("somebody else")
    return Backend(registry, reopened, move_alias, tamper, set_tag, upload, forget_key)


@pytest.fixture
def registry(backend: Backend) -> PolicyRegistry:
    return backend.registry


@pytest.fixture
def policy() -> str:
    """A name of its own for each test: the server is shared."""
    return f"policy-{uuid.uuid4().hex[:8]}"
