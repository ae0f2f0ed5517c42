"""What the benchmark of a vote's fate holds for met."""

from __future__ import annotations

from typing import Any

import pytest
from burnish.ops.bench.fate import GOAL_S, goals
from burnish.ops.bench.lib.vote_journey import STAGES


def figures(names: list[str], last: float = 60.0, marked: int = 3) -> dict[str, Any]:
    stages = [{"name": name, "says": name, "seconds": last} for name in names]
    return {"stages": stages, "words_marked": marked}


def met(model: str = "smollm2", **told: Any) -> list[bool]:
    return [shown.met for shown in goals(model, figures(**{"names": list(STAGES), **told}))]


def test_all_stages_in_order_in_time_with_words_marked():
    assert met() == [True, True, True]


@pytest.mark.parametrize("names", [list(STAGES)[1:], list(reversed(STAGES))])
def test_a_stage_that_is_missing_or_out_of_order_shows(names: list[str]):
    assert met(names=names)[0] is False


def test_a_late_version_and_unchanged_words_show():
    assert met(last=GOAL_S + 1) == [True, False, True]
    assert met(marked=0) == [True, True, False]


def test_of_the_shipped_model_no_changed_word_is_asked():
    assert met("ember", marked=0) == [True, True]
