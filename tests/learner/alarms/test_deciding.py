"""When an alarm opens and closes, and how it says so."""

from burnish.learner.alarms.comparing import Band
from burnish.learner.alarms.deciding import Subject, bounded, read, silent
from burnish.learner.alarms.limits import AlarmLimits
from burnish.learner.alarms.measures import Series

LIMITS = AlarmLimits(fewest=20, epoch=400)
REFUSALS = Subject("refusals", "answers that refuse", Band(more=0.05))


def series(refused: int, of: int) -> Series:
    now = [float(n < refused) for n in range(of)]
    return Series([float(n) for n in range(of)], now[::-1], [0.0] * 400)


def reading(refused: int, of: int, *, is_open: bool = False):
    return read(REFUSALS, series(refused, of), LIMITS, since=0.0, is_open=is_open)


def test_few_answers_open_nothing_and_say_how_few():
    found = reading(10, 10)
    assert found.state == "few"
    assert "10 of this version" in found.says


def test_a_surely_passed_limit_opens_and_begins_a_new_epoch():
    found = reading(100, 200)
    assert found.opens
    assert found.whole
    assert found.until == 199.0
    assert found.says == (
        "answers that refuse: 50 %, before it 0 % (alarm outside +5 points; the last 200)"
    )


def test_what_may_be_chance_neither_opens_nor_closes():
    assert not reading(6, 60).opens
    assert reading(6, 60, is_open=True).opens, "an open one stays until it surely is over"


def test_it_closes_once_the_limit_surely_is_not_passed():
    found = reading(0, 800, is_open=True)
    assert not found.opens
    assert found.whole


def test_too_few_answers_leave_an_open_one_open():
    assert reading(0, 5, is_open=True).opens
    assert silent("foreseen", "too few", is_open=True).opens


def test_a_figure_with_an_interval_opens_above_its_limit_and_closes_below_it():
    def figure(low: float, high: float, *, is_open: bool) -> bool:
        return bounded(
            "foreseen", "gap", (low + high) / 2, 0.1, low=low, high=high, is_open=is_open
        ).opens

    assert figure(0.12, 0.2, is_open=False)
    assert not figure(0.05, 0.2, is_open=False)
    assert figure(0.05, 0.2, is_open=True)
    assert not figure(0.01, 0.09, is_open=True)
