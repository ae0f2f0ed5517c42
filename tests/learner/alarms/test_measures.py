"""What is measured of answers, each as numbers between 0 and 1."""

import pytest
from burnish.learner.alarms.measures import MEASURES
from burnish.learner.alarms.reading import Answer


def answer(time: float = 0.0, **changes) -> Answer:
    fields = {"tokens": 10, "entropy": 1.0, "refuses": False, "asks": False}
    return Answer(**{"time": time, **fields, **changes})


def test_lengths_are_parts_of_what_was_usual_and_cut_where_one_is_endless():
    before = [answer(tokens=10), answer(tokens=30)]
    series = MEASURES["length"].measure([answer(1.0, tokens=20), answer(2.0, tokens=9000)], before)
    assert series.scale == 80
    assert series.now == [0.25, 1.0]
    assert series.before == [0.125, 0.375]
    assert series.times == [1.0, 2.0]


def test_only_answers_that_call_a_tool_count_among_failures():
    now = [answer(1.0), answer(2.0, failed=True), answer(3.0, failed=False)]
    series = MEASURES["tool_failures"].measure(now, [answer(), answer(failed=False)])
    assert (series.times, series.now, series.before) == ([2.0, 3.0], [1.0, 0.0], [0.0])


@pytest.mark.parametrize(("name", "field"), [("refusals", "refuses"), ("questions", "asks")])
def test_shares_count_every_answer(name: str, field: str):
    now = [answer(1.0, **{field: True}), answer(2.0)]
    assert MEASURES[name].measure(now, []).now == [1.0, 0.0]


def test_the_phrase_asked_for_is_that_of_the_answers_before():
    """Else the phrase that happens to be commonest would always look common."""
    now = [answer(float(n), opener="happy to" if n < 25 else "sure thing") for n in range(50)]
    series = MEASURES["opener"].measure(now, [answer(opener="sure thing")] * 2)
    assert series.now == [0.0] * 25 + [0.0] * 25, "first what was usual, then what was commonest"
    now = [answer(float(n), opener="happy to") for n in range(50)]
    series = MEASURES["opener"].measure(now, [answer(opener=None)])
    assert series.now == [0.0] * 25 + [1.0] * 25
    assert series.what == "happy to"


def test_nothing_before_is_no_reason_to_fail():
    assert MEASURES["entropy"].measure([answer(1.0)], []).before == []
