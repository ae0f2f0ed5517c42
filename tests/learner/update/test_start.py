"""When an update begins anew at the base."""

import pytest
from burnish.learner.update.start import is_rebuilt


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
