"""However many names one key invents, they weigh little; honest newcomers are heard."""

import random
from dataclasses import replace

import pytest
from burnish.feedback.judgements import Judgement
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Rater
from burnish.feedback.trust.weighing import weigh
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feedback.judged import vote

POLICY = TrustPolicy()
HOUR_S = POLICY.window_s


def crowd(
    users: int,
    each: int,
    *,
    key: str,
    agree: float,
    expected: float = 0.5,
    hours: int = 1,
    tenant: str = "acme",
    seed: int = 0,
) -> tuple[list[Judgement], list[float]]:
    """People of one key who vote `each` times, and with the chance `agree` as is expected, by so much."""
    rng = random.Random(f"{key}/{seed}")
    votes, told = [], []
    for user in range(users):
        for n in range(each):
            truth = rng.choice([-1.0, 1.0])
            value = truth if rng.random() < agree else -truth
            time = rng.uniform(0, hours * HOUR_S - 1)
            votes.append(
                vote(f"{key}{user}", f"{key}{user}/{n}", value, time, key_id=key, tenant=tenant)
            )
            told.append(expected * truth)
    return votes, told


def weight(of: list[Judgement], among: list[Judgement], weights) -> float:
    ids = {v.id for v in of}
    return sum(w for v, w in zip(among, weights, strict=True) if v.id in ids)


@given(st.integers(1, 400), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_a_pool_is_bounded_whatever_the_number_of_identities(identities: int, seed: int):
    policy = replace(POLICY, user_votes=20)
    honest, told = crowd(12, 20, key="ours", agree=0.9, seed=seed)
    invented, lied = crowd(identities, 1, key="theirs", agree=0.0, seed=seed)
    votes = honest + invented
    weights = weigh(votes, told + lied, policy).weights
    share = policy.newcomer_share / (1 - policy.newcomer_share)
    assert weight(invented, votes, weights) <= 20 + share * weight(honest, votes, weights) + 1e-6


def test_ten_thousand_invented_users_weigh_no_more_than_one():
    honest, told = crowd(40, 30, key="ours", agree=0.85)
    invented, lied = crowd(10_000, 1, key="theirs", agree=0.1, tenant="other")
    votes = honest + invented
    weights = weigh(votes, told + lied).weights
    assert weight(honest, votes, weights) > 0.95 * len(honest)
    assert weight(invented, votes, weights) <= POLICY.user_votes + 1e-6


def test_a_model_that_knows_little_makes_nobody_a_newcomer_again():
    """Votes with one in five on the wrong button, and a model hardly better than guessing: what it expects says
    nothing of a single person, and an invented crowd must not be the larger for it."""
    honest, told = crowd(50, 60, key="ours", agree=0.55, expected=0.1)
    invented, lied = crowd(10_000, 1, key="theirs", agree=0.45, expected=0.1, tenant="other")
    votes = honest + invented
    weights = weigh(votes, told + lied).weights
    assert weight(honest, votes, weights) > 0.8 * len(honest)
    assert weight(invented, votes, weights) <= POLICY.user_votes + 1e-6


def test_before_a_model_says_what_to_expect_who_votes_often_is_established():
    """Else the first weights, which that model is fitted with, would hear invented names as a crowd."""
    honest, _ = crowd(40, 15, key="ours", agree=0.85)
    invented, _ = crowd(2000, 1, key="theirs", agree=0.1, tenant="other")
    votes = honest + invented
    weights = weigh(votes).weights
    assert weight(honest, votes, weights) == pytest.approx(len(honest))
    assert weight(invented, votes, weights) <= POLICY.user_votes + 1e-6


def test_honest_newcomers_double_their_pool_with_every_window():
    established, told = crowd(20, 30, key="ours", agree=0.9, hours=4)
    casual, said = crowd(3000, 1, key="casual", agree=0.9, hours=4)
    votes = established + casual
    weights = weigh(votes, told + said, replace(POLICY, user_votes=50)).weights
    by_hour = [
        sum(
            w
            for v, w in zip(votes, weights, strict=True)
            if v.key_id == "casual" and v.time // HOUR_S == hour
        )
        for hour in range(4)
    ]
    assert by_hour[0] <= 50 / 3 + 1
    assert by_hour == sorted(by_hour)
    assert by_hour[3] > 4 * by_hour[0]


def test_who_is_alone_has_no_pool_to_share():
    votes, told = crowd(900, 1, key="ours", agree=0.9)
    assert sum(weigh(votes, told).weights) == pytest.approx(900, rel=0.05)


def test_the_cap_of_a_user_follows_what_honest_people_do():
    """People vote some ten times an hour: sixty is what one may, and not two hundred."""
    honest, told = crowd(40, 10, key="ours", agree=0.95)
    busy, said = crowd(1, 150, key="ours-too", agree=0.95)
    votes = honest + busy
    weights = weigh(votes, told + said).weights
    assert weight(busy, votes, weights) <= 3 * 10 + 1
    assert weight(honest, votes, weights) > 0.95 * len(honest)


@given(st.integers(15, 40), st.integers(15, 40))
@settings(max_examples=10, deadline=None)
def test_no_tenant_moves_more_than_all_the_rest(mine: int, theirs: int):
    """Whatever hours they vote in, unless the policy is theirs."""
    policy = replace(POLICY, user_votes=5, least_user_votes=5)
    own, told = crowd(mine, 9, key="own", agree=0.95, hours=3, tenant="mine")
    other, said = crowd(theirs, 9, key="other", agree=0.95, hours=9, tenant="theirs")
    votes = own + other
    weights = weigh(votes, told + said, policy).weights
    ours, rest = weight(own, votes, weights), weight(other, votes, weights)
    assert ours == pytest.approx(rest, rel=0.01)
    owned = weigh(votes, told + said, replace(policy, owner="mine")).weights
    assert weight(own, votes, owned) >= ours - 1e-6


def test_what_an_admin_releases_counts_and_a_later_burst_does_not():
    burst = [vote("ann", f"b{n}", 1.0, n * 0.1) for n in range(40)]
    later = [vote("ann", f"l{n}", 1.0, 9e5 + n * 0.1) for n in range(40)]
    policy = replace(POLICY, released={Rater("acme", "ann"): 5e5})
    weighed = weigh(burst + later, None, policy)
    assert weighed.quarantined == 40
    assert all(weight > 0 for weight in weighed.weights[:40])
    assert not any(weighed.weights[40:])
