"""The policy registry on a real MLflow (SQLite)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.serving.registry import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    PolicyRegistry,
    RegistryError,
    UnknownVersion,
    adapter_sha256,
)

Make = Callable[..., Path]


def with_base(registry: PolicyRegistry) -> PolicyRegistry:
    registry.ensure_base("default", "/models/ember", "b" * 64)
    return registry


def test_the_base_is_version_one_and_champion(registry: PolicyRegistry) -> None:
    for _ in range(2):
        base = registry.ensure_base("default", "/models/ember", "b" * 64)
        assert (base.version, base.sha256, base.base_sha256) == (1, None, "b" * 64)
    assert registry.champion("default") == registry.get("default", 1)
    assert registry.policies() == ["default"]
    assert registry.get("default", 1).ref == "default@1"


def test_another_base_under_the_same_policy_is_refused(registry: PolicyRegistry) -> None:
    with_base(registry)
    with pytest.raises(BaseMismatch):
        registry.ensure_base("default", "/models/other", "c" * 64)


def test_a_version_keeps_lineage_report_and_metrics(
    registry: PolicyRegistry, make_adapter: Make
) -> None:
    with_base(registry)
    lineage = {"feedback": [f"feedback-{i}" for i in range(1000)]}  # more than a tag holds
    made = registry.register(
        "default", make_adapter(), parent=1, lineage=lineage, metrics={"kl": 0.1}
    )
    assert (made.version, made.parent, made.base_sha256) == (2, 1, "b" * 64)
    assert made.lineage == lineage
    assert made.metrics == {"kl": 0.1}
    assert made.gate_report is None
    registry.set_gate_report("default", 2, {"passed": False, "why": "KL"})
    assert registry.get("default", 2).gate_report == {"passed": False, "why": "KL"}
    assert [version.version for version in registry.versions("default")] == [1, 2]


def test_promote_and_rollback_leave_a_trace(registry: PolicyRegistry, make_adapter: Make) -> None:
    with_base(registry)
    with pytest.raises(NothingToRollBack):
        registry.rollback("default")
    registry.register("default", make_adapter(), parent=1, lineage={})
    registry.set_alias("default", "challenger", 2)
    assert registry.get("default", 2).aliases == ("challenger",)
    assert registry.promote("default", 2, who="gate").aliases == ("champion",)
    assert registry.get("default", 1).aliases == ("previous",)
    assert registry.rollback("default", who="ann").version == 1
    assert registry.rollback("default").version == 2
    moves = [(move.who, move.what, move.before, move.after) for move in registry.history("default")]
    assert moves == [
        ("tester", "start", None, 1),
        ("gate", "promote", 1, 2),
        ("ann", "rollback", 2, 1),
        ("tester", "rollback", 1, 2),
    ]
    with pytest.raises(UnknownVersion):
        registry.promote("default", 99)


def test_a_move_in_mlflow_is_noticed_once_and_can_be_rolled_back(
    registry: PolicyRegistry, registry_uri: str, make_adapter: Make
) -> None:
    from mlflow import MlflowClient

    with_base(registry)
    registry.register("default", make_adapter(), parent=1, lineage={})
    MlflowClient(registry_uri, registry_uri).set_registered_model_alias("default", "champion", "2")
    move = registry.note_moves("default")
    assert move is not None
    assert (move.what, move.before, move.after) == ("moved outside", 1, 2)
    assert PolicyRegistry(registry_uri).note_moves("default") is None
    assert registry.rollback("default").version == 1


def test_fetch_takes_two_files_and_checks_them(
    registry: PolicyRegistry, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry)
    folder = make_adapter()
    (folder / "code.pkl").write_bytes(b"never")
    version = registry.register("default", folder, parent=1, lineage={})
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
    assert registry.fetch(registry.get("default", 1), tmp_path / "cache") is None


def test_a_tampered_artifact_is_not_fetched(
    registry: PolicyRegistry, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry)
    version = registry.register("default", make_adapter(), parent=1, lineage={})
    stored = next((tmp_path / "mlflow").rglob("adapter_model.safetensors"))
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
