"""What the policy registry keeps over every store: MLflow on SQLite, an MLflow server, and memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.serving.registry import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    PolicyRegistry,
    UnknownVersion,
    adapter_sha256,
)

from .conftest import Backend

Make = Callable[..., Path]


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
    report = {"passed": False, "why": "KL"}
    registry.register(policy, make_adapter(), parent=2, lineage={}, gate_report=report)
    assert registry.get(policy, 3).gate_report == report
    assert [version.version for version in registry.versions(policy)] == [1, 2, 3]


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


def test_a_move_made_elsewhere_is_noticed_once_and_can_be_rolled_back(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    registry.register(policy, make_adapter(), parent=1, lineage={})
    backend.move_alias(policy, "champion", 2)
    move = registry.note_moves(policy)
    assert move is not None
    assert (move.what, move.before, move.after) == ("moved outside", 1, 2)
    assert backend.reopened().note_moves(policy) is None
    assert registry.rollback(policy).version == 1
    traced = [(move.what, move.after) for move in registry.history(policy)]
    assert traced == [("start", 1), ("moved outside", 2), ("rollback", 1)]


def test_the_challenger_alias_is_set_and_removed(
    registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    registry.register(policy, make_adapter(), parent=1, lineage={})
    registry.set_alias(policy, "challenger", 2)
    assert [version.aliases for version in registry.versions(policy)] == [
        ("champion",),
        ("challenger",),
    ]
    for _ in range(2):  # removing what is not there is no error
        registry.set_alias(policy, "challenger", None)
    assert registry.get(policy, 2).aliases == ()
    with pytest.raises(ValueError, match="promote or rollback"):
        registry.set_alias(policy, "champion", 2)


def test_unknown_policies_and_versions_are_told_apart_from_outages(
    registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    assert registry.champion(policy) is None
    assert registry.champion_version(policy) is None
    for missing in (registry.versions, registry.history, lambda name: registry.get(name, 1)):
        with pytest.raises(UnknownVersion):
            missing(policy)
    with_base(registry, policy)
    for unknown in (
        lambda: registry.get(policy, 9),
        lambda: registry.promote(policy, 9),
        lambda: registry.register(policy, make_adapter(), parent=9, lineage={}),
    ):
        with pytest.raises(UnknownVersion):
            unknown()
    assert registry.champion_version(policy) == 1


def test_only_chat_policies_are_listed(registry: PolicyRegistry, policy: str) -> None:
    registry.ensure_base(f"{policy}-compactor", "scorer", "b" * 64, kind="compactor")
    assert f"{policy}-compactor" not in registry.policies()
    assert registry.champion_version(f"{policy}-compactor") == 1


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


def test_a_tampered_adapter_is_not_fetched(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry, policy)
    version = registry.register(policy, make_adapter(), parent=1, lineage={})
    backend.tamper(version)
    with pytest.raises(HashMismatch):
        registry.fetch(version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
