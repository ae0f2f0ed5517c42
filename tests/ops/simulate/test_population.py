"""Hidden preferences: fixed by the seed, and with a noise-free truth."""

import random

import pytest
from burnish.ops.simulate.population import SPAM_REPEATS, Population, User, draw_population

FAMILIES = ["sums", "words", "talk"]
STYLES = ("terse", "explained", "friendly")


def drawn(**changes) -> Population:
    return draw_population(families=FAMILIES, styles=STYLES, **changes)


def test_the_same_seed_draws_the_same_people() -> None:
    assert drawn(seed=1) == drawn(seed=1)
    assert drawn(seed=1).preferred != drawn(seed=2).preferred


def test_about_the_asked_share_of_pairs_deviates() -> None:
    people = drawn(users=400, deviate=0.25)
    pairs = [
        user.preferred_styles[name] != people.preferred[name]
        for user in people.users
        for name in FAMILIES
    ]
    assert sum(pairs) / len(pairs) == pytest.approx(0.25, abs=0.04)


def test_malicious_users_are_as_many_as_asked_and_never_all() -> None:
    assert len(drawn(users=50, malicious=0.04).honest) == 48
    assert len(drawn(users=3, malicious=1.0).honest) == 1


def test_without_deviation_the_preferred_style_is_worth_what_the_table_says() -> None:
    people = drawn(deviate=0.0, malicious=0.0)
    liked = people.preferred["sums"]
    other = next(style for style in STYLES if style != liked)
    assert people.expected("sums", True, liked) == pytest.approx(0.90)
    assert people.expected("sums", True, other) == pytest.approx(0.50)
    assert people.expected("sums", False, liked) == pytest.approx(0.20)
    assert people.expected("sums", False, None) == pytest.approx(0.05)
    assert people.oracle_expected("sums", True) == pytest.approx(0.90)


def test_an_honest_thumb_keeps_silent_and_flips_as_often_as_asked() -> None:
    people = drawn(flip=0.2, judged=0.3)
    rng = random.Random(0)
    votes = [people.votes(people.honest[0], 1.0, rng) for _ in range(4000)]
    cast = [vote[0] for vote in votes if vote]
    assert len(cast) / len(votes) == pytest.approx(0.3, abs=0.03)
    assert sum(cast) / len(cast) == pytest.approx(0.8, abs=0.03)


def test_the_malicious_invert_or_spam_and_never_keep_silent() -> None:
    people, rng = drawn(), random.Random(0)
    preferred_styles = people.users[0].preferred_styles
    assert people.votes(User("i", preferred_styles, "inverter"), 1.0, rng) == (False,)
    assert people.votes(User("i", preferred_styles, "inverter"), 0.0, rng) == (True,)
    assert people.votes(User("s", preferred_styles, "spammer"), 1.0, rng) == (False,) * SPAM_REPEATS
