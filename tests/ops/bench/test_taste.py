"""The features of a text that simulated people have a taste for."""

import pytest
from burnish.ops.bench.lib.taste import FEATURES, features_of
from hypothesis import given
from hypothesis import strategies as st

PLAIN = "Boil the rice with a pinch of salt. Then let it rest under a lid."


def feature(name: str, text: str) -> float:
    return features_of(text)[FEATURES.index(name)]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("length", f"{PLAIN} {PLAIN}"),
        ("lists", "1. Boil the rice.\n2. Add salt.\n- Let it rest."),
        ("greeting", f"Hello there! {PLAIN}"),
        ("greeting", f"  Good morning, {PLAIN}"),
        ("hedging", f"Perhaps {PLAIN}"),
        ("question", f"{PLAIN} Which rice do you have?"),
        ("question", f'{PLAIN} "Which rice do you have?"'),
    ],
)
def test_more_of_a_feature_counts_as_more(name, more):
    assert feature(name, more) > feature(name, PLAIN)


@pytest.mark.parametrize("casual", ["Let's boil the rice.", "Don’t stir it.", "Boil the rice!"])
def test_contractions_and_exclamation_marks_are_less_formal(casual):
    assert feature("formality", casual) < feature("formality", PLAIN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("greeting", "Hide the key under the mat."),
        ("lists", "There are 3 ways. The first is to boil it."),
        ("question", "Which rice? Take the long one."),
        ("hedging", "Mayonnaise is mighty good."),
    ],
)
def test_what_only_looks_like_a_feature_does_not_count(name, text):
    assert feature(name, text) == 0


@given(st.text())
def test_any_text_has_every_feature_as_a_finite_number(text):
    found = features_of(text)
    assert len(found) == len(FEATURES)
    assert all(abs(value) < 100 for value in found)
