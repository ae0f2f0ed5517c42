"""Canaries in the registry: one for each policy, beside its alias, each change noted."""

from __future__ import annotations

from pathlib import Path

import pytest
from burnish.feedback.audit import AuditLog
from burnish.serving.registry import NoCanary, StubRegistry


@pytest.fixture
def registry() -> StubRegistry:
    made = StubRegistry()
    made.ensure_base("default", "model", "base")
    for _ in range(2):
        made.add()
    return made


def test_a_challenger_that_nobody_leads_has_none(registry):
    assert registry.canaries.of("default") is None
    registry.set_alias("default", "challenger", 2)
    assert registry.canaries.of("default") is None


def test_it_is_begun_ramped_paused_and_withdrawn(registry):
    begun = registry.canaries.begin("default", 2, 0.05, who="canary")
    assert registry.canaries.of("default") == begun
    assert registry.canaries.tried_at("default", 2) == begun.started_at
    assert registry.challenger_version("default") == 2
    assert registry.canaries.ramp("default", 0.25, who="ada").share == 0.25
    assert registry.canaries.pause("default", who="ada").paused_by == "ada"
    assert registry.canaries.resume("default", who="ada").paused_by is None
    assert registry.canaries.withdraw("default", who="ada") == 2
    assert registry.canaries.of("default") is None
    assert registry.champion_version("default") == 1


def test_each_draws_its_users_anew(registry):
    salts = {registry.canaries.begin("default", n, 0.05, who="canary").salt for n in (2, 3, 2)}
    assert len(salts) == 3


def test_when_a_version_was_first_tried_is_known_for_good(registry):
    assert registry.canaries.tried_at("default", 2) is None
    first = registry.canaries.begin("default", 2, 0.05, who="canary", at=5.0)
    registry.canaries.begin("default", 3, 0.05, who="canary", at=6.0)
    registry.canaries.begin("default", 2, 0.05, who="canary", at=7.0)
    assert registry.canaries.tried_at("default", 2) == first.started_at == 5.0


def test_it_ends_with_its_alias(registry):
    registry.canaries.begin("default", 2, 0.05, who="canary")
    registry.set_alias("default", "challenger", 3)
    assert registry.canaries.of("default") is None
    registry.set_alias("default", "challenger", 2)
    registry.promote("default", 2)
    assert registry.canaries.of("default") is None


def test_what_does_not_run_cannot_be_changed(registry):
    for change in (registry.canaries.pause, registry.canaries.resume, registry.canaries.withdraw):
        with pytest.raises(NoCanary):
            change("default", who="ada")
    registry.canaries.begin("default", 2, 0.05, who="canary")
    for share in (0.0, 0.6):
        with pytest.raises(ValueError, match=r"at most 0.5"):
            registry.canaries.ramp("default", share, who="ada")


def test_each_change_is_audited(registry, tmp_path: Path):
    registry._audit = log = AuditLog(tmp_path)
    registry.canaries.begin("default", 2, 0.05, who="canary")
    registry.canaries.ramp("default", 0.1, who="ada", why="looks fine")
    registry.canaries.withdraw("default", who="canary", why="an alarm is open")
    told = [(entry.who, entry.what, entry.about, entry.why) for entry in log.entries()]
    assert told == [
        ("canary", "canary begins", "default@2", ""),
        ("ada", "canary ramped", "default@2", "looks fine"),
        ("canary", "canary withdrawn", "default@2", "an alarm is open"),
    ]
