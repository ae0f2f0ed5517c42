"""A malicious or hasty few weigh little; an honest many weigh what they should."""

import random
from dataclasses import replace

import pytest
from burnish.feedback.trust import (
    TrustPolicy,
    Vote,
    cap_weights,
    effective_votes,
    quarantined,
    trust_weights,
    weigh,
)
from hypothesis import given
from hypothesis import strategies as st

SMALL = TrustPolicy(user_votes=3, tenant_votes=8, window_s=100, burst_votes=4, burst_s=5)

VOTES = st.lists(
    st.builds(
        Vote,
        user=st.sampled_from(["ann", "ben", "cid", None]),
        interaction=st.sampled_from(["i1", "i2", "i3"]),
        value=st.sampled_from([-1.0, 1.0, 0.2]),
        time=st.floats(0, 250),
        tenant=st.sampled_from(["acme", "other"]),
        predicted=st.one_of(st.none(), st.floats(-1, 1)),
    ),
    max_size=40,
)


def cast(users: int, each: int, seed: int = 0, flips: float = 0.0, liars: int = 0) -> list[Vote]:
    """Votes of a population on answers of known quality; the first `liars` vote the other way."""
    rng = random.Random(seed)
    votes = []
    for user in range(users):
        for n in range(each):
            truth = rng.choice([-1.0, 1.0])
            value = -truth if (rng.random() < flips) != (user < liars) else truth
            votes.append(
                Vote(
                    user=f"u{user}",
                    interaction=f"i{user}-{n}",
                    value=value,
                    time=n * 60.0,
                    predicted=0.6 * truth,
                )
            )
    return votes


@given(VOTES)
def test_weights_are_bounded_and_one_for_each_vote(votes: list[Vote]) -> None:
    weighed = weigh(votes, SMALL)
    assert len(weighed.weights) == len(votes)
    assert all(0 <= weight <= 1 for weight in weighed.weights)
    assert all(SMALL.floor <= trust <= 1 for trust in weighed.trust.values())


@given(VOTES, st.randoms(use_true_random=False))
def test_the_order_of_the_votes_makes_no_difference(votes: list[Vote], rng) -> None:
    votes = [replace(vote, id=str(n)) for n, vote in enumerate(votes)]
    shuffled = votes[:]
    rng.shuffle(shuffled)
    before, after = weigh(votes, SMALL), weigh(shuffled, SMALL)
    assert dict(zip(votes, before.weights, strict=True)) == pytest.approx(
        dict(zip(shuffled, after.weights, strict=True))
    )


@given(VOTES)
def test_nobody_weighs_more_than_the_cap_in_a_window(votes: list[Vote]) -> None:
    weights = cap_weights(votes, SMALL)
    for window in range(3):
        inside = [
            (vote, weight)
            for vote, weight in zip(votes, weights, strict=True)
            if int(vote.time / SMALL.window_s) == window
        ]
        for tenant in ("acme", "other"):
            of_tenant = [pair for pair in inside if pair[0].tenant == tenant]
            assert sum(weight for _, weight in of_tenant) <= SMALL.tenant_votes + 1e-9
            for user in ("ann", "ben", "cid"):
                own = [weight for vote, weight in of_tenant if vote.user == user]
                assert sum(own) <= SMALL.user_votes + 1e-9


@given(VOTES)
def test_a_user_has_one_vote_on_an_interaction(votes: list[Vote]) -> None:
    effective = effective_votes(votes)
    places = [(v.tenant, v.interaction, v.user, v.name) for v in effective if v.user is not None]
    assert len(places) == len(set(places))


def test_repeating_a_vote_adds_nothing() -> None:
    vote = Vote("ann", "i1", 1.0)
    again = [replace(vote, time=float(n)) for n in range(10)]
    assert sum(weigh(again).weights) == pytest.approx(sum(weigh([vote]).weights))
    assert weigh([vote, vote]).superseded == 1


def test_the_last_vote_is_the_one_that_counts() -> None:
    changed = [Vote("ann", "i1", -1.0, time=2.0), Vote("ann", "i1", 1.0, time=1.0)]
    weighed = weigh(changed)
    assert weighed.weights[0] > 0
    assert weighed.weights[1] == 0


def test_a_burst_is_quarantined_and_the_rest_of_the_user_is_not() -> None:
    slow = [Vote("ann", f"s{n}", 1.0, time=n * 60.0) for n in range(10)]
    burst = [Vote("ann", f"b{n}", 1.0, time=10_000 + n * 0.1) for n in range(50)]
    ben = [Vote("ben", f"c{n}", 1.0, time=10_000 + n * 0.1) for n in range(20)]
    policy = TrustPolicy()
    assert quarantined(slow + burst + ben, policy) == set(burst)
    weighed = weigh(slow + burst + ben, policy)
    assert weighed.quarantined == 50
    assert weighed.quarantined_users == {("", "ann")}
    assert all(weight > 0 for weight in weighed.weights[:10])
    assert all(weight == 0 for weight in weighed.weights[10:60])


def test_more_votes_than_the_cap_never_weigh_more() -> None:
    policy = TrustPolicy(user_votes=20, burst_votes=10**6)
    totals = []
    for count in (10, 20, 40, 400):
        votes = [Vote("ann", f"i{n}", 1.0, time=n * 3000 / count) for n in range(count)]
        totals.append(sum(weigh(votes, policy).weights))
    assert totals[0] < totals[1]
    assert totals[1:] == pytest.approx([totals[1]] * 3)


def test_honest_users_are_believed_and_liars_are_not() -> None:
    votes = cast(users=50, each=20, flips=0.2, liars=5)
    trust = trust_weights(votes)
    liars = [trust[("", f"u{n}")] for n in range(5)]
    honest = [trust[("", f"u{n}")] for n in range(5, 50)]
    assert max(liars) <= 0.1
    assert sum(honest) / len(honest) > 0.8
    weighed = weigh(votes)
    of_liars = sum(weighed.weights[: 5 * 20])
    assert of_liars / sum(weighed.weights) < 0.02  # they are a tenth of all


def test_liars_among_people_who_see_the_same_answers_are_found_without_a_model() -> None:
    rng = random.Random(1)
    votes = [
        Vote(f"u{user}", f"i{n}", truth if user >= 3 else -truth, time=n * 60.0)
        for n in range(15)
        for truth in [rng.choice([-1.0, 1.0])]
        for user in range(12)
    ]
    trust = trust_weights(votes)
    assert max(trust[("", f"u{n}")] for n in range(3)) <= 0.1
    assert min(trust[("", f"u{n}")] for n in range(3, 12)) == 1.0


def test_a_newcomer_counts_in_full_and_a_little_bad_luck_costs_little() -> None:
    newcomer = trust_weights([Vote("ann", "i1", 1.0)])
    assert newcomer[("", "ann")] == pytest.approx(1.0)
    unlucky = trust_weights([Vote("ann", "i1", 1.0, predicted=-1.0)])
    assert 0.5 < unlucky[("", "ann")] < 1.0


def test_agreeing_more_never_costs_trust() -> None:
    votes = cast(users=1, each=12, flips=0.3)
    before = trust_weights(votes)[("", "u0")]
    after = trust_weights([*votes, Vote("u0", "new", 1.0, predicted=0.9)])[("", "u0")]
    assert after >= before


def test_an_uncertain_expectation_teaches_little() -> None:
    sure = trust_weights([Vote("ann", f"i{n}", 1.0, predicted=-1.0) for n in range(5)])
    unsure = trust_weights([Vote("ann", f"i{n}", 1.0, predicted=-0.05) for n in range(5)])
    assert sure[("", "ann")] < unsure[("", "ann")]


def test_tenants_do_not_vouch_for_each_other() -> None:
    votes = [Vote("ann", "i1", 1.0, tenant="acme"), Vote("ben", "i1", -1.0, tenant="other")]
    assert set(trust_weights(votes).values()) == {1.0}


def test_many_votes_without_a_user_are_not_one_persons_burst() -> None:
    votes = [Vote(None, f"i{n}", 1.0, time=n * 0.01) for n in range(200)]
    assert sum(weigh(votes).weights) == pytest.approx(200)
