"""The arithmetic behind the reports, on cases small enough to check by hand."""

import math

import numpy as np
import pytest
from burnish.ops.simulate.journal import Journal, SentVote, ServedAnswer, cadence
from burnish.ops.simulate.lineage import resolve
from burnish.ops.simulate.main import json_ready
from burnish.ops.simulate.statistics import bootstrap, gap_recovered, kaplan_meier_quantile


def answer(at: float, version: int, **changes) -> ServedAnswer:
    fields = {"id": f"a{at}", "user": "u", "family": "sums", "right": True, "style": "terse",
              "expected": 0.9, "honest": True, "seconds": 0.1}  # fmt: skip
    return ServedAnswer(at=at, version=version, **{**fields, **changes})


def vote(at: float, key: str, up: bool = False, **changes) -> SentVote:
    fields = {"answer_id": f"answer to {key}", "version": 1, "honest": True, "staleness": 0}
    return SentVote(at=at, feedback_id=key, up=up, **{**fields, **changes})


def test_share_of_way_is_undefined_without_a_way() -> None:
    assert gap_recovered(np.array(0.5), np.array(0.65), np.array(0.7)) == pytest.approx(0.75)
    assert math.isnan(gap_recovered(np.array(0.7), np.array(0.7), np.array(0.7)))


def test_a_paired_interval_ignores_what_prompts_have_in_common() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    low, high = bootstrap([hard, hard + 0.1], lambda a, b: b - a)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_strata_keep_their_sizes() -> None:
    column, strata = np.array([0.0] * 50 + [1.0] * 50), ["a"] * 50 + ["b"] * 50
    assert bootstrap([column], lambda mean: mean, strata=strata) == (0.5, 0.5)


def test_votes_still_waiting_at_the_end_make_the_median_later_not_earlier() -> None:
    assert kaplan_meier_quantile([10, 20, 30], [], 0.5) == 20
    assert kaplan_meier_quantile([10, 20, 30], [40, 40, 40], 0.5) == 30
    assert kaplan_meier_quantile([10], [40, 40, 40], 0.5) is None
    assert kaplan_meier_quantile([10, 20, 30], [1, 1, 1], 0.5) == 20
    assert kaplan_meier_quantile([], [], 0.5) is None


def test_cadence_counts_the_first_answer_by_weights_that_include_the_vote() -> None:
    journal = Journal(answers=[answer(0, 1), answer(50, 2), answer(60, 2), answer(90, 3)])
    for cast in (vote(40, "y"), vote(20, "up", up=True), vote(30, "z"),
                 vote(5, "gone", retracted=True), vote(9, "again", answer_id="answer to x"),
                 vote(10, "x")):  # fmt: skip
        journal.votes[cast.feedback_id] = cast
    known = {
        2: {"parent": 1, "lineage": {"feedback_ids": ["local/x", "local/gone"]}},
        3: {"parent": 2, "lineage": {"feedback_ids": ["local/y#1"]}},
    }
    learnt = resolve({1, 2, 3}, known, journal.votes)
    assert learnt == {1: frozenset(), 2: {"x", "gone"}, 3: {"x", "gone", "y"}}
    found = cadence(journal, learnt)
    assert (found["thumbs_down"], found["included"]) == (3, 2)
    assert found["median_seconds_of_included"] == 45  # x waited 40, y waited 50
    assert found["median_seconds"] == 50  # z still waited when the run ended


def test_a_lineage_by_time_includes_what_was_accepted_by_then() -> None:
    votes = {"x": vote(10, "x"), "y": vote(40, "y")}
    known = {2: {"parent": 1, "lineage": {"feedback_until": 20.0}}}
    assert resolve({2}, known, votes)[2] == {"x"}


def test_summaries_leave_out_the_malicious_and_pair_with_the_base() -> None:
    base = answer(1, 1, expected=0.5, right=False)
    journal = Journal(
        answers=[
            answer(2, 2, base=base, thumb=True),
            answer(3, 2, expected=0.5, thumb=False),
            answer(4, 2, honest=False, expected=0.0),
        ]
    )
    (row,) = journal.summaries()
    assert (row.answers, row.judged, row.pairs) == (2, 2, 1)
    assert row.expected == pytest.approx(0.7)
    assert row.observed == pytest.approx(0.5)
    assert (row.paired_expected, row.base_expected, row.base_right) == (0.9, 0.5, 0.0)


def test_results_hold_no_nan() -> None:
    assert json_ready({"a": float("nan"), "b": [0.123456]}) == {"a": None, "b": [0.1235]}
