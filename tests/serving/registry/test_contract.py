"""What the policy registry keeps over every store: MLflow on SQLite, an MLflow server, and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.serving.registry import (
    BaseMismatch,
    HashMismatch,
    NothingToRollBack,
    NotSigned,
    PolicyRegistry,
    RegistryError,
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


def test_the_overview_is_what_its_parts_say(
    registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    registry.register(policy, make_adapter(), parent=1, lineage={})
    registry.promote(policy, 2, who="ann")
    registry.pause(policy, who="ann", why="a release")
    overview = registry.overview(policy, 1)
    assert overview.versions == registry.versions(policy, 1) == [registry.get(policy, 2)]
    assert overview.history == registry.history(policy)
    assert [move.what for move in overview.history] == ["start", "promote"]
    assert overview.paused == registry.paused(policy)
    assert overview.paused is not None
    assert overview.paused.why == "a release"
    with pytest.raises(UnknownVersion):
        registry.overview("nobody's")


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


def test_nothing_is_fetched_that_the_learner_did_not_sign(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    """Somebody who can write to MLflow uploads an adapter, with every tag that ours have."""
    with_base(registry, policy)
    evil = make_adapter("evil")
    tags = {"sha256": adapter_sha256(evil), "base_sha256": "b" * 64, "parent": "1"}
    for forged in ({}, {"signature": "f" * 64}, {"signature": "no hexadecimal"}):
        version = backend.upload(policy, evil, {**tags, **forged})
        backend.move_alias(policy, "champion", version)
        with pytest.raises(NotSigned, match=f"burnish sign {policy}@{version}"):
            registry.fetch(registry.get(policy, version), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("sha256", "a" * 64),
        ("base_sha256", "c" * 64),
        ("parent", "2"),
        ("lineage", '{"rule": "another"}'),
        ("gate", '{"passed": true}'),
    ],
)
def test_a_signature_is_good_only_for_what_was_signed(
    backend: Backend,
    registry: PolicyRegistry,
    policy: str,
    make_adapter: Make,
    tmp_path: Path,
    tag: str,
    value: str,
) -> None:
    with_base(registry, policy)
    report = {"passed": False}
    adapter = make_adapter()
    made = registry.register(policy, adapter, parent=1, lineage={}, gate_report=report)
    copied = backend.upload_again(made, adapter, {})
    assert registry.fetch(registry.get(policy, copied), tmp_path / "cache")
    changed = backend.upload_again(made, adapter, {tag: value})
    with pytest.raises(NotSigned):
        registry.fetch(registry.get(policy, changed), tmp_path / "cache")


def test_a_signature_cannot_be_moved_to_another_policy(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry, policy)
    with_base(registry, f"{policy}-other")
    adapter = make_adapter()
    made = registry.register(policy, adapter, parent=1, lineage={})
    moved = backend.upload_again(made, adapter, {}, f"{policy}-other")
    with pytest.raises(NotSigned):
        registry.fetch(registry.get(f"{policy}-other", moved), tmp_path / "cache")


@pytest.mark.parametrize("tagged", [True, False])
def test_a_version_that_a_person_brought_is_fetched_once_it_is_signed(
    backend: Backend,
    registry: PolicyRegistry,
    policy: str,
    make_adapter: Make,
    tmp_path: Path,
    tagged: bool,
) -> None:
    with_base(registry, policy)
    mine = make_adapter("mine")
    tags = {"sha256": adapter_sha256(mine), "base_sha256": "b" * 64} if tagged else {}
    brought = backend.upload(policy, mine, tags)
    signed = backend.reopened().sign(policy, brought)
    assert (signed.sha256, signed.base_sha256) == (adapter_sha256(mine), "b" * 64)
    fetched = registry.fetch(registry.get(policy, brought), tmp_path / "cache")
    assert fetched is not None
    assert adapter_sha256(fetched) == signed.sha256


def test_what_is_not_what_its_tag_says_cannot_be_signed(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make
) -> None:
    with_base(registry, policy)
    brought = backend.upload(policy, make_adapter(), {"sha256": "a" * 64})
    with pytest.raises(HashMismatch):
        registry.sign(policy, brought)
    with pytest.raises(UnknownVersion):
        registry.sign(policy, 99)


def test_versions_served_before_there_were_signatures_are_trusted_once(
    backend: Backend,
    registry: PolicyRegistry,
    policy: str,
    make_adapter: Make,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_base(registry, policy)
    for name in ("champion", "later", "pinned nowhere"):
        registry.register(policy, make_adapter(name), parent=1, lineage={})
    registry.promote(policy, 2)
    registry.promote(policy, 3)
    for version in (2, 3, 4):
        backend.set_tag(policy, version, "signature", "")
    backend.forget_key()

    upgraded = backend.reopened()
    upgraded.ensure_base(policy, "/models/ember", "b" * 64)
    assert f"{policy}@2, {policy}@3" in caplog.text
    for version in (2, 3):
        assert upgraded.fetch(upgraded.get(policy, version), tmp_path / "cache")
    with pytest.raises(NotSigned):  # it never was champion
        upgraded.fetch(upgraded.get(policy, 4), tmp_path / "cache")

    late = backend.upload(policy, make_adapter("late"), {"base_sha256": "b" * 64, "sha256": "a"})
    backend.move_alias(policy, "champion", late)
    again = backend.reopened()
    again.ensure_base(policy, "/models/ember", "b" * 64)
    with pytest.raises(NotSigned):
        again.fetch(again.get(policy, late), tmp_path / "cache")


def test_the_signing_key_is_rotated_under_what_it_signed(
    backend: Backend, registry: PolicyRegistry, policy: str, make_adapter: Make, tmp_path: Path
) -> None:
    with_base(registry, policy)
    before = registry.register(policy, make_adapter(), parent=1, lineage={"rule": "pg"})
    unsigned = backend.upload(policy, make_adapter("evil"), {"sha256": "a" * 64})
    assert backend.reopened().rotate_signing_key() >= 1
    after = registry.get(policy, 2)
    assert after.signature != before.signature
    assert registry.fetch(after, tmp_path / "cache")
    with pytest.raises(NotSigned):  # what the old key had signed, brought back
        registry.fetch(before, tmp_path / "cache")
    with pytest.raises(NotSigned):
        registry.fetch(registry.get(policy, unsigned), tmp_path / "cache")


@pytest.mark.parametrize(("tag", "value"), [("parent", "one"), ("metrics", "{")])
def test_tags_that_are_not_ours_are_an_error_of_that_version_alone(
    backend: Backend,
    registry: PolicyRegistry,
    policy: str,
    make_adapter: Make,
    tag: str,
    value: str,
) -> None:
    with_base(registry, policy)
    brought = backend.upload(policy, make_adapter(), {tag: value})
    backend.move_alias(policy, "challenger", brought)
    with pytest.raises(RegistryError, match="not ours"):
        registry.get(policy, brought)
    assert [version.version for version in registry.versions(policy)] == [1]
    assert registry.get(policy, 1).aliases == ("champion",)


OPEN = """
import sys
from burnish.serving.registry.mlflow_store import MlflowStore
print(MlflowStore(sys.argv[1]).alias("chat", "champion"))
print(*{"pandas", "pyarrow"} & sys.modules.keys())
import pandas
print(pandas.__name__)
"""


def test_a_registry_is_opened_without_what_only_data_sets_need(tmp_path: Path) -> None:
    """In a process of its own; whoever asks for pandas after it still gets it."""
    command = [sys.executable, "-c", OPEN, f"sqlite:///{tmp_path}/mlflow.db"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[-3:] == ["None", "", "pandas"]
