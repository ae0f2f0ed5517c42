"""GET /v1/audit: moves of the champion and erasures with who and why, for admins; a broken log says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.feedback.audit import LOG, AuditLog
from burnish.serving.api.auth import KeyStore
from burnish.serving.engine import StubEngine
from burnish.serving.registry import PolicyRegistry, StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running


@pytest.fixture
def running(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    registry = StubRegistry()
    registry._audit = AuditLog(settings.data_dir)
    return serve(settings, StubEngine("Hello there."), registry)


def test_moves_are_told_with_who_and_why(running: Running) -> None:
    registry = running.service.registry
    version = registry.add()  # type: ignore[attr-defined]
    moved = {"version": version, "why": "it answers better"}
    running.http("POST", "/v1/policies/default/promote", json=moved)
    running.http("POST", "/v1/policies/default/rollback", json={"why": "it does not"})
    told = running.http("GET", "/v1/audit", params={"limit": 2, "check": True}).json()
    assert told["problems"] == []
    assert [(e["who"], e["what"], e["about"], e["why"]) for e in told["data"]] == [
        ("local", "rollback", "default@1", "it does not"),
        ("local", "promote", "default@2", "it answers better"),
    ]
    assert told["data"][1]["details"] == {"before": "default@1"}


def test_an_alias_that_was_moved_elsewhere_is_told_too(
    registry: PolicyRegistry, tmp_path: Path, make_adapter: Callable[..., Path]
) -> None:
    registry._audit = AuditLog(tmp_path)
    registry.ensure_base("default", "model", "f" * 64)
    version = registry.register("default", make_adapter(), parent=1, lineage={}).version
    registry._store.set_alias("default", "champion", version)
    registry.note_moves("default")
    last = AuditLog(tmp_path).entries()[-1]
    assert (last.who, last.what, last.about) == ("outside", "moved outside", "default@2")


def test_a_line_that_was_removed_is_told(running: Running) -> None:
    log = running.service.audit
    for n in range(3):
        log.append("ann", "promote", f"default@{n}")
    path = running.service.settings.data_dir / LOG
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept[:-2] + kept[-1:]))
    problems = running.http("GET", "/v1/audit", params={"check": True}).json()["problems"]
    assert problems == [f"before line {len(kept) - 1}, entries {len(kept) - 1} are missing"]


def test_it_takes_the_scope_admin(running: Running) -> None:
    key = KeyStore(running.service.settings.data_dir / "keys.sqlite").create("acme", ["chat"])
    assert running.with_key(key).http("GET", "/v1/audit").status_code == 403
