"""The memory benchmark: its measures, and that a missed goal is reported."""

from copy import deepcopy
from typing import Any

import pytest
from burnish.learner.compactor.evaluation import BudgetPoint, least_budget
from burnish.learner.compactor.world import rough_count
from burnish.learner.compactor.world_generator import make_world
from burnish.memory.compaction import Bm25Policy, RecentPolicy, SummaryPolicy
from burnish.ops.bench.lib import memory_score as scores
from burnish.ops.bench.lib.memory_goals import check_goals

LATENCY = {"append_ms": {"p50": 1.0, "p95": 2.0}, "context_ms": {"p50": 3.0, "p95": 9.0}}
GOOD = {
    "score": {"learned": [{"share": share, "score": 1.0} for share in (0.05, 0.1, 0.2)]},
    "enough": {"learned": 0.05, "bm25": 0.2, "recent": None},
    "enough_long": {"learned": 0.06, "bm25": 0.3},
    "ruler": {"learned": {"needles": 1.0, "variables": 1.0}},
    "recompacted": {"learned": {"lost_by_10": 0}},
    "promises": {
        "budget": {"least_share": 0.96}, "rules": {"lost": 0}, "scripts": {"missed": []},
    },
    "talk": {
        kind: {
            "questions": 300,
            "kept": {
                name: {key: {"mean": mean, "all": mean} for key in ("0.05", "0.1", "0.2")}
                for name, mean in (("bm25", 0.5), ("rubric", 0.3), ("learned", 0.7))
            },
        }
        for kind in ("talk", "assistant")
    },
    "agent": {"refused": 0},
    "latency_policies": {"learned": {"p95": 9.0}, "session": {"steps": 10_000}},
    "latency": {"100": LATENCY, "10000": deepcopy(LATENCY)},
    "tenants": {"crossed": 0},
    "records": {"search_ms": {"p50": 3.0, "p95": 5.0}},
    "peers": {"mem0_talk": {"talk": {s: {"mean": 0.6} for s in ("0.05", "0.1", "0.2")}}, "mem0": {"score": {"0.1": 0.5}, "search_ms_at_300": {"p50": 8.0, "p95": 9.0}}},
    "writers": {
        "sent": 9, "acknowledged": 9, "missing": 0, "twice": 0, "out_of_order": 0,
        "at_another_place": 0,
    },
}  # fmt: skip


def missed(figures: dict) -> list[str]:
    return [goal.line for goal in check_goals(figures) if not goal.met]


def test_figures_that_meet_every_goal_pass() -> None:
    assert missed(GOOD) == []
    assert len(check_goals(GOOD)) == 25


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("score", "learned", 1, "score"), 0.99),
        (("enough", "learned"), 0.14),
        (("enough", "bm25"), 0.07),
        (("enough_long", "learned"), None),
        (("ruler", "learned", "variables"), 0.9),
        (("recompacted", "learned", "lost_by_10"), 1),
        (("promises", "budget", "least_share"), 0.9),
        (("promises", "rules", "lost"), 1),
        (("promises", "scripts", "missed"), ["Thai: a word"]),
        (("latency", "10000", "append_ms", "p95"), 2.6),
        (("latency", "10000", "context_ms", "p95"), 30.0),
        (("talk", "talk", "kept", "learned", "0.1"), {"mean": 0.54, "all": 0.5}),
        (("talk", "assistant", "kept", "bm25", "0.2"), {"mean": 0.66, "all": 0.6}),
        (("latency_policies", "learned", "p95"), 26.0),
        (("agent", "refused"), 1),
        (("tenants", "crossed"), 1),
        (("records", "search_ms", "p50"), 8.5),
        (("writers", "missing"), 1),
        (("writers", "acknowledged"), 8),
    ],
)
def test_a_missed_goal_is_reported(path: tuple[str, ...], value: Any) -> None:
    figures = deepcopy(GOOD)
    place: Any = figures
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert missed(figures)


def test_enough_is_where_the_score_stays_not_where_it_first_reaches() -> None:
    points = [BudgetPoint(0.1, 0.99, 0.1), BudgetPoint(0.2, 0.9, 0.2), BudgetPoint(0.3, 0.98, 0.3)]
    assert least_budget(points) == 0.3
    assert least_budget(points[:2]) is None


async def test_more_tokens_never_cost_more_than_was_asked_for() -> None:
    environments = scores.worlds(40, 1, 50, 9)
    said: list[str] = []
    found = await scores.curves(
        [RecentPolicy(), Bm25Policy(), SummaryPolicy()], environments, (0.1, 1.1), said.append
    )
    assert len(said) == 3
    for points in found.values():
        assert points[0].tokens <= 0.1
        assert points[1].score == 1.0  # the whole log fits
        assert points[0].score < 1.0


async def test_needles_are_found_by_bm25_and_not_by_the_tail() -> None:
    found = await scores.ruler([RecentPolicy(), Bm25Policy()], 6000, 800, rough_count, [0])
    assert found["bm25"]["needles"] == 1.0
    assert found["recent"]["needles"] < 0.5


def test_a_growing_log_is_cut_between_tool_exchanges() -> None:
    events = [scores.to_event(step) for step in make_world(3).steps]
    cuts = scores.slices(events, 10)
    assert [start for start, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == len(events)
    assert all(events[start]["role"] != "tool" for start, _ in cuts)
