"""What a version becomes that passed the gate, and what waits while one is tried."""

from __future__ import annotations

import pytest
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.registration import being_tried
from burnish.serving.registry import StubRegistry

CANARY = LearnerSettings(promotes="challenger")


@pytest.fixture
def registry() -> StubRegistry:
    made = StubRegistry()
    made.ensure_base("default", "model", "base")
    made.add()
    return made


@pytest.mark.parametrize(
    ("every", "promotes", "to"),
    [
        (5400.0, None, "challenger"),
        (600.0, None, "challenger"),
        (20.0, None, "champion"),
        (20.0, "challenger", "challenger"),
        (5400.0, "nothing", "nothing"),
    ],
)
def test_where_updates_are_rare_a_version_meets_a_share_of_users_first(every, promotes, to):
    assert LearnerSettings(update_every=every, promotes=promotes).promotes_to == to


def test_no_version_is_begun_while_another_is_tried(registry):
    assert being_tried(registry, "default", CANARY) is None
    registry.set_alias("default", "challenger", 2)
    why = being_tried(registry, "default", CANARY)
    assert why == "default@2 is tried on a share of users first (`burnish canary show`)"
    assert being_tried(registry, "default", LearnerSettings(promotes="champion")) is None
    registry.promote("default", 2)
    assert being_tried(registry, "default", CANARY) is None
