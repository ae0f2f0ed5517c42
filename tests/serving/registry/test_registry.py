"""The policy registry on a real MLflow: the same tests on SQLite and through a server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.serving.registry.policy_registry import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    PolicyRegistry,
    RegistryError,
    UnknownVersion,
    adapter_sha256,
)

from tests.conftest import free_port

Make = Callable[..., Path]


@dataclass(frozen=True)
class Mlflow:
    uri: str
    artifacts: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """MLflow's own server, as lean as it goes."""
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


@pytest.fixture(params=["sqlite", "server"])
def mlflow(request: pytest.FixtureRequest, tmp_path: Path) -> Mlflow:
    if request.param == "server":
        return request.getfixturevalue("server")
    return Mlflow(request.getfixturevalue("registry_uri"), tmp_path / "mlflow" / "artifacts")


@pytest.fixture
def registry(mlflow: Mlflow) -> PolicyRegistry:
    return PolicyRegistry(mlflow.uri, who="tester")


@pytest.fixture
def policy() -> str:
    """A name of its own for each test: a server is shared."""
    return f"policy-{uuid.uuid4().hex[:8]}"


def with_base(registry: PolicyRegistry, policy: str) -> PolicyRegistry:
    registry.ensure_base(policy, "/models/ember", "b" * 64)
    return registry


def test_the_base_is_version_one_and_champion(registry: PolicyRegistry, policy: str) -> None:
    for _ in range(2):
        base = registry.ensure_base(policy, "/models/ember", "b" * 64)
        assert (base.version, base.sha256, base.base_sha256) == (1, None, "b" * 64)
    assert registry.champion(policy) == registry.get(policy, 1)
    assert policy in registry.policies()
    assert registry.get(policy, 1).ref == f"{policy}@1"


def test_another_base_under_the_same_policy_is_refused(
    registry: PolicyRegistry, policy: str
) -> None:
    with_base(registry, policy)
    with pytest.raises(BaseMismatch):
        registry.ensure_base(policy, "/models/other", "c" * 64)


def test_a_version_keeps_lineage_report_and_metrics(
    registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    lineage = {"feedback": [f"feedback-{i}" for i in range(1000)]}  # more than a tag holds
    made = registry.register(policy, make_adapter(), parent=1, lineage=lineage, metrics={"kl": 0.1})
    assert (made.version, made.parent, made.base_sha256) == (2, 1, "b" * 64)
    assert made.lineage == lineage
    assert made.metrics == {"kl": 0.1}
    assert made.gate_report is None
    registry.set_gate_report(policy, 2, {"passed": False, "why": "KL"})
    assert registry.get(policy, 2).gate_report == {"passed": False, "why": "KL"}
    assert [version.version for version in registry.versions(policy)] == [1, 2]


def test_promote_and_rollback_leave_a_trace(
    registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    with pytest.raises(NothingToRollBack):
        registry.rollback(policy)
    registry.register(policy, make_adapter(), parent=1, lineage={})
    registry.set_alias(policy, "challenger", 2)
    assert registry.get(policy, 2).aliases == ("challenger",)
    assert registry.promote(policy, 2, who="gate").aliases == ("champion",)
    assert registry.get(policy, 1).aliases == ("previous",)
    assert registry.rollback(policy, who="ann").version == 1
    assert registry.rollback(policy).version == 2
    moves = [(move.who, move.what, move.before, move.after) for move in registry.history(policy)]
    assert moves == [
        ("tester", "start", None, 1),
        ("gate", "promote", 1, 2),
        ("ann", "rollback", 2, 1),
        ("tester", "rollback", 1, 2),
    ]
    with pytest.raises(UnknownVersion):
        registry.promote(policy, 99)


def test_a_move_in_mlflow_is_noticed_once_and_can_be_rolled_back(
    registry: PolicyRegistry, policy: str, mlflow: Mlflow, make_adapter: Make
) -> None:
    from mlflow import MlflowClient

    with_base(registry, policy)
    registry.register(policy, make_adapter(), parent=1, lineage={})
    MlflowClient(mlflow.uri, mlflow.uri).set_registered_model_alias(policy, "champion", "2")
    move = registry.note_moves(policy)
    assert move is not None
    assert (move.what, move.before, move.after) == ("moved outside", 1, 2)
    assert PolicyRegistry(mlflow.uri).note_moves(policy) is None
    assert registry.rollback(policy).version == 1


def test_fetch_takes_two_files_and_checks_them(
    registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry, policy)
    folder = make_adapter()
    (folder / "code.pkl").write_bytes(b"never")
    version = registry.register(policy, folder, parent=1, lineage={})
    assert version.sha256 == adapter_sha256(folder)
    fetched = registry.fetch(version, tmp_path / "cache")
    assert fetched is not None
    assert sorted(file.name for file in fetched.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    (fetched / "adapter_model.safetensors").write_bytes(b"damaged copy")
    again = registry.fetch(version, tmp_path / "cache")
    assert again is not None
    assert adapter_sha256(again) == version.sha256
    assert registry.fetch(registry.get(policy, 1), tmp_path / "cache") is None


def test_a_tampered_artifact_is_not_fetched(
    mlflow: Mlflow, registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry, policy)
    version = registry.register(policy, make_adapter(), parent=1, lineage={})
    stored = max(
        mlflow.artifacts.rglob("adapter_model.safetensors"), key=lambda f: f.stat().st_mtime
    )
    stored.write_bytes(b"evil")
    with pytest.raises(HashMismatch):
        registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_registry_that_is_away_is_a_registry_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(RegistryError) as caught:
        PolicyRegistry(f"http://127.0.0.1:{port}").champion_version("default")
    assert not isinstance(caught.value, UnknownVersion)
