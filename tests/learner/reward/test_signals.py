"""What signals are worth: laws of the estimate, and what becomes of answers that have them."""

import pytest
from burnish.feedback.events import SIGNALS as NAMES
from burnish.feedback.rewards import SIGNALS, Reward, reward_of
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward.experience import load
from burnish.learner.reward.signals import (
    SignalWorth,
    explicit_rewards,
    figures,
    information,
    signal_worths,
    with_worths,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import judged
from tests.learner.conftest import interaction, thumbs

COUNTS = st.integers(0, 400)
RATES = st.floats(0.02, 0.98)
NAMED = st.sampled_from(sorted(NAMES))


def learnt(
    name: str, *, liked: float = 0, disliked: float = 0, others: tuple[float, float] = (0, 0)
) -> SignalWorth:
    """From so many liked and disliked answers with a signal, and others without one."""
    marked, unmarked = [judged("signal", name)], [judged("comment", "hm")]
    kinds = [
        (1.0, liked, marked), (-1.0, disliked, marked),
        (1.0, others[0], unmarked), (-1.0, others[1], unmarked),
    ]  # fmt: skip
    explicit = [Reward(value, count, "thumbs") for value, count, _ in kinds]
    return signal_worths([judgements for _, _, judgements in kinds], explicit)[name]


@given(st.lists(st.sampled_from(sorted(NAMES)), max_size=30))
def test_without_explicit_judgements_signals_are_worth_their_constants(names: list[str]):
    given = [[judged("signal", name, f"u{n}")] for n, name in enumerate(names)]
    worths = signal_worths(given, explicit_rewards(given))
    assert set(worths) == set(NAMES)
    for name, found in worths.items():
        assert found.worth.value == pytest.approx(SIGNALS[name].value)
        assert found.worth.weight == SIGNALS[name].weight
    assert figures(worths) == {}


@given(NAMED, st.integers(1, 4), st.integers(1, 4))
def test_a_signal_of_good_and_bad_alike_comes_to_weigh_nothing(name: str, up: int, down: int):
    def weight(times: int) -> float:
        mix = {"liked": up * times, "disliked": down * times, "others": (up * times, down * times)}
        return learnt(name, **mix).worth.weight

    assert weight(100) < max(0.06, SIGNALS[name].weight / 2)
    assert weight(100) <= max(0.02, weight(10))


def test_however_many_judge_a_signal_that_tells_nothing_weighs_less_and_less():
    found = [learnt("copied", liked=n, disliked=n, others=(n, n)) for n in (4, 40, 400, 4000)]
    weights = [signal.worth.weight for signal in found]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < 0.001


@given(NAMED, st.booleans(), st.integers(1, 300))
def test_a_signal_that_never_errs_weighs_towards_a_vote_and_never_more(
    name: str, good: bool, count: int
):
    def found(count: int) -> SignalWorth:
        if good:
            return learnt(name, liked=count, others=(0, count))
        return learnt(name, disliked=count, others=(count, 0))

    few, many = found(count), found(1200)
    assert few.worth.weight < 1
    assert 0.9 < many.worth.weight < 1
    assert (many.worth.value > 0.9) == good


@given(NAMED, COUNTS, COUNTS, COUNTS, COUNTS)
def test_worths_stay_in_bounds(name: str, liked: int, disliked: int, up: int, down: int):
    found = learnt(name, liked=liked, disliked=disliked, others=(up, down))
    assert -1 <= found.worth.value <= 1
    assert 0 <= found.worth.weight <= 1
    assert found.seen == pytest.approx(liked + disliked)


@given(NAMED, st.integers(0, 200), st.integers(1, 200))
def test_one_more_like_never_lowers_a_signals_value(name: str, liked: int, disliked: int):
    mixed = {"others": (50, 50)}
    before = learnt(name, liked=liked, disliked=disliked, **mixed)
    after = learnt(name, liked=liked + 1, disliked=disliked - 1, **mixed)
    assert after.worth.value > before.worth.value


@given(RATES, RATES)
def test_information_is_none_where_rates_are_equal_and_less_than_a_verdicts(a: float, b: float):
    assert information(a, a) == pytest.approx(0, abs=1e-12)
    assert 0 <= information(a, b) < 1
    assert information(a, b) == pytest.approx(information(1 - a, 1 - b), abs=1e-9)


def test_a_copy_that_people_regret_turns_against_the_answer():
    assert learnt("copied", liked=10, disliked=90, others=(90, 10)).worth.value < -0.5


def test_the_comparison_is_with_answers_without_the_signal():
    usual = learnt("copied", liked=90, disliked=10, others=(90, 10))
    telling = learnt("copied", liked=90, disliked=10, others=(10, 90))
    assert usual.worth.weight < 0.05
    assert telling.worth.weight > 0.5
    assert telling.otherwise < 0.2 < 0.8 < usual.otherwise


def test_who_votes_in_a_burst_teaches_signals_nothing():
    bot = [
        [judged("thumbs", "down", "bot", **place), judged("signal", "copied", "bot", **place)]
        for n in range(60)
        for place in [{"interaction_id": f"b{n}", "time": n / 10}]
    ]
    assert signal_worths(bot, explicit_rewards(bot))["copied"].seen == 0


def test_where_nobody_judged_a_signal_counts_as_was_learnt(sqlite: Database):
    with sqlite.write() as session:
        upsert(session, [interaction(n) for n in range(1, 4)])
        upsert(session, [thumbs(1, "copied", name="signal")])
        upsert(session, [thumbs(2, "abandoned", name="signal"), thumbs(3)])
    with sqlite.read() as session:
        loaded = load(session, "default", champion=1, limit=9, max_staleness=9)
    worths = {
        "copied": learnt("copied", liked=90, disliked=10, others=(10, 90)),
        "abandoned": SignalWorth(SIGNALS["followup"], 0.5, 0.5),
    }
    kept = with_worths(loaded, worths)
    assert [answer.interaction_id for answer in kept] == ["chatcmpl-0001", "chatcmpl-0003"]
    copied, liked = (reward_of(answer.judgements) for answer in kept)
    assert copied is not None
    assert liked is not None
    assert copied.weight == pytest.approx(worths["copied"].worth.weight)
    assert (copied.source, liked.weight) == ("signal:copied", 1.0)
