"""Intervals and folds: laws, and values that other people's code gives."""

import numpy as np
import pytest
from burnish.learner.report.statistics import (
    PairWins,
    Weighted,
    difference_interval,
    folds,
    newcombe,
    wilson,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(given):
    liked, count = given
    theirs = binomtest(liked, count).proportion_ci(method="wilson")
    assert wilson(liked, count) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_newcombe_is_newcombes():
    """Statistics in Medicine 17 (1998), table II, (a) and (c), method 10."""
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference(6, 7, 2, 7) == pytest.approx((0.0582, 0.8062), abs=5e-5)


def difference(a: int, of_a: int, b: int, of_b: int) -> tuple[float, float]:
    return newcombe(wilson(a, of_a), wilson(b, of_b), a / of_a, b / of_b)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@given(
    st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 6),
)
def test_folds_part_people(votes, count):
    made = folds(votes, count)
    assert len(made) == min(count, len(votes))
    assert sorted(person for fold in made for person in fold) == sorted(votes)
    sizes = [sum(votes[person] for person in fold) for fold in made]
    assert max(sizes) - min(sizes) <= max(votes.values()), "about as many votes each"
    assert made == folds(dict(reversed(votes.items())), count), "whatever order they come in"


def drawn(count: int, people: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    values = (rng.random(count) < 0.6).astype(float)
    scores = np.round(rng.normal(size=count) + values, 1)  # with ties
    return scores, values, [f"u{n}" for n in rng.integers(0, people, count)]


def test_auroc_is_scikit_learns():
    scores, values, raters = drawn(300, 15)
    wins = PairWins()
    wins.add(scores, values, raters, np.ones(300))
    assert wins.auroc == pytest.approx(roc_auc_score(values, scores))


def test_scores_of_two_folds_are_not_compared():
    scores, values, raters = drawn(300, 15)
    wins = PairWins()
    wins.add(scores, values, raters, np.ones(300))
    wins.add(scores + 100, values, [f"other-{r}" for r in raters], np.ones(300))
    assert wins.auroc == pytest.approx(roc_auc_score(values, scores))


def test_a_vote_of_half_is_in_no_pair_and_without_pairs_there_is_no_auroc():
    wins = PairWins()
    wins.add([0.1, 0.9], [0.5, 1.0], ["a", "b"], [1.0, 1.0])
    assert (wins.auroc, wins.interval()) == (None, None)


def test_an_interval_holds_the_auroc_and_is_wider_with_fewer_people():
    def interval(people: int) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        raters = np.arange(400) % people
        scores = rng.normal(size=people)[raters] + rng.normal(size=400)  # alike within a person
        values = rng.permutation(people)[raters] % 2  # who likes all, or nothing
        wins = PairWins()
        wins.add(scores, values, raters.astype(str), np.ones(400))
        low, high = wins.interval() or (0.0, 0.0)
        assert low < (wins.auroc or 0) < high
        return low, high

    few, many = interval(10), interval(200)
    assert few[1] - few[0] > many[1] - many[0]


def test_people_who_are_strict_in_both_make_no_difference():
    people = [f"u{n}" for n in range(40)]
    strictness = np.random.default_rng(0).normal(size=40)
    before = Weighted(list(strictness), [1.0] * 40, people)
    after = Weighted(list(strictness + 0.1), [1.0] * 40, people)
    low, high = difference_interval(after, before) or (0.0, 0.0)
    assert (low, high) == pytest.approx((0.1, 0.1))
    strangers = Weighted(list(strictness), [1.0] * 40, [f"v{n}" for n in range(40)])
    low, high = difference_interval(after, strangers) or (0.0, 0.0)
    assert low < 0 < high


def test_weights_weigh():
    assert Weighted([0.0, 1.0], [3.0, 1.0], ["a", "b"]).mean == 0.25
