"""When an update begins anew at the base."""

from typing import Any

import pytest
from burnish.kernels.loading import load_model
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.checkpoint import Checkpoint
from burnish.learner.update.start import fresh_adapter, is_rebuilt, next_start

from tests.learner.update.conftest import progress


@pytest.mark.parametrize(
    ("most", "rebuilt"),
    [(12, [4, 8, 15, 27, 39]), (2, [2, 4, 6]), (1, [1, 2, 3]), (0, [])],
)
def test_it_is_rebuilt_whenever_the_updates_have_doubled_and_at_the_latest_after_so_many(
    most: int, rebuilt: list[int]
):
    since, found = 0, []
    for generation in range(1, 45):
        since += 1
        if is_rebuilt(since, generation, most):
            found.append(generation)
            since = 0
    assert found[: len(rebuilt)] == rebuilt
    assert bool(found) == bool(rebuilt)


@pytest.mark.parametrize(
    ("state", "settings", "refused", "anew"),
    [
        ({"changed": True}, {}, False, True),
        ({"changed": False}, {}, False, False),
        ({"changed": True}, {}, True, False),
        ({"changed": True}, {"rebuild_every": 0}, False, False),
    ],
)
def test_after_a_change_of_tastes_the_next_update_begins_anew(
    tiny_model, tmp_path, state: dict[str, Any], settings: dict[str, Any], refused: bool, anew: bool
):
    model, told = load_model(tiny_model), LearnerSettings(**settings)
    parent = Checkpoint(tmp_path, progress(), fresh_adapter(model, told), {}, state)
    start = next_start(parent, progress(), model, told, refused)
    assert start.progress.since_base == (0 if anew else 2)
    assert start.rule_state == {}, "the next one after it does not begin anew as well"
