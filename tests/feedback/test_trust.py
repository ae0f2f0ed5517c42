"""A malicious or hasty few weigh little; an honest many weigh what they should."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from burnish.feedback.judgements import Judgement
from burnish.feedback.trust import TrustPolicy, weigh
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import judged, vote

SMALL = TrustPolicy(user_votes=3, tenant_votes=8, window_s=100, burst_votes=4, burst_s=5)

Expected = list[float | None]
VOTES = st.lists(
    st.tuples(
        st.builds(
            vote,
            st.sampled_from(["ann", "ben", "cid", None]),
            st.sampled_from(["i1", "i2", "i3"]),
            st.sampled_from([-1.0, 1.0, 0.2]),
            st.floats(0, 250),
            tenant=st.sampled_from(["acme", "other"]),
        ),
        st.one_of(st.none(), st.floats(-1, 1)),
    ),
    max_size=40,
).map(lambda pairs: ([v for v, _ in pairs], [e for _, e in pairs]))


def cast(
    users: int, each: int, seed: int = 0, flips: float = 0.0, liars: int = 0
) -> tuple[list[Judgement], Expected]:
    """Votes of a population on answers of known quality; the first `liars` vote the other way."""
    rng = random.Random(seed)
    votes, expected = [], []
    for user in range(users):
        for n in range(each):
            truth = rng.choice([-1.0, 1.0])
            value = -truth if (rng.random() < flips) != (user < liars) else truth
            votes.append(vote(f"u{user}", f"i{user}-{n}", value, n * 60.0))
            expected.append(0.6 * truth)
    return votes, expected


def trust_of(
    votes: list[Judgement], expected: Sequence[float | None] | None = None
) -> dict[str, float]:
    return {user: trust for (_, user), trust in weigh(votes, expected).trust.items()}


@given(VOTES)
def test_weights_are_bounded_and_one_for_each_vote(given_votes) -> None:
    votes, expected = given_votes
    weighed = weigh(votes, expected, SMALL)
    assert len(weighed.weights) == len(votes)
    assert all(0 <= weight <= 1 for weight in weighed.weights)
    assert all(SMALL.floor <= trust <= 1 for trust in weighed.trust.values())


@given(VOTES, st.randoms(use_true_random=False))
def test_the_order_of_the_votes_makes_no_difference(given_votes, rng) -> None:
    votes, expected = given_votes
    votes = [replace(v, id=str(n)) for n, v in enumerate(votes)]
    order = list(range(len(votes)))
    rng.shuffle(order)
    before = weigh(votes, expected, SMALL).weights
    after = weigh([votes[i] for i in order], [expected[i] for i in order], SMALL).weights
    assert [before[i] for i in order] == pytest.approx(list(after))


@given(VOTES)
def test_nobody_weighs_more_than_the_cap_in_a_window(given_votes) -> None:
    votes, _ = given_votes
    weights = weigh(votes, None, SMALL).weights
    for window in range(3):
        inside = [
            (v, weight)
            for v, weight in zip(votes, weights, strict=True)
            if int(v.time / SMALL.window_s) == window
        ]
        for tenant in ("acme", "other"):
            of_tenant = [pair for pair in inside if pair[0].tenant == tenant]
            assert sum(weight for _, weight in of_tenant) <= SMALL.tenant_votes + 1e-9
            for user in ("ann", "ben", "cid"):
                own = [weight for v, weight in of_tenant if v.user == user]
                assert sum(own) <= SMALL.user_votes + 1e-9


def test_what_says_neither_good_nor_bad_weighs_nothing_and_uses_up_no_cap() -> None:
    comments = [judged("comment", "hm", interaction_id=f"i{n}") for n in range(10)]
    weighed = weigh([*comments, vote("ann", "i0", 1.0)], None, SMALL)
    assert weighed.weights == (0.0,) * 10 + (1.0,)
    assert (weighed.quarantined, weighed.capped) == (0, 0)


def test_a_burst_is_quarantined_and_the_rest_of_the_user_is_not() -> None:
    slow = [vote("ann", f"s{n}", 1.0, n * 60.0) for n in range(10)]
    burst = [vote("ann", f"b{n}", 1.0, 10_000 + n * 0.1) for n in range(50)]
    ben = [vote("ben", f"c{n}", 1.0, 10_000 + n * 0.1) for n in range(20)]
    weighed = weigh(slow + burst + ben, None, TrustPolicy())
    assert weighed.quarantined == 50
    assert weighed.quarantined_users == {("acme", "ann")}
    assert all(weight > 0 for weight in weighed.weights[:10])
    assert all(weight == 0 for weight in weighed.weights[10:60])
    assert all(weight > 0 for weight in weighed.weights[60:])


def test_more_votes_than_the_cap_never_weigh_more() -> None:
    policy = TrustPolicy(user_votes=20, burst_votes=10**6)
    totals = []
    for count in (10, 20, 40, 400):
        votes = [vote("ann", f"i{n}", 1.0, n * 3000 / count) for n in range(count)]
        totals.append(sum(weigh(votes, None, policy).weights))
    assert totals[0] < totals[1]
    assert totals[1:] == pytest.approx([totals[1]] * 3)


def test_honest_users_are_trusted_and_liars_are_not() -> None:
    votes, expected = cast(users=50, each=20, flips=0.2, liars=5)
    trust = trust_of(votes, expected)
    liars = [trust[f"u{n}"] for n in range(5)]
    honest = [trust[f"u{n}"] for n in range(5, 50)]
    assert max(liars) <= 0.1
    assert sum(honest) / len(honest) > 0.8
    weights = weigh(votes, expected).weights
    of_liars = sum(weights[: 5 * 20])
    assert of_liars / sum(weights) < 0.02  # they are a tenth of all


def test_liars_among_people_who_see_the_same_answers_are_found_without_a_model() -> None:
    rng = random.Random(1)
    votes = [
        vote(f"u{user}", f"i{n}", truth if user >= 3 else -truth, n * 60.0)
        for n in range(15)
        for truth in [rng.choice([-1.0, 1.0])]
        for user in range(12)
    ]
    trust = trust_of(votes)
    assert max(trust[f"u{n}"] for n in range(3)) <= 0.1
    assert min(trust[f"u{n}"] for n in range(3, 12)) == 1.0


def test_a_newcomer_counts_in_full_and_a_little_bad_luck_costs_little() -> None:
    one = [vote("ann", "i1", 1.0)]
    assert trust_of(one)["ann"] == pytest.approx(1.0)
    assert 0.5 < trust_of(one, [-1.0])["ann"] < 1.0


def test_agreeing_more_never_costs_trust() -> None:
    votes, expected = cast(users=1, each=12, flips=0.3)
    before = trust_of(votes, expected)["u0"]
    after = trust_of([*votes, vote("u0", "new", 1.0, 9e5)], [*expected, 0.9])["u0"]
    assert after >= before


def test_an_uncertain_expectation_teaches_little() -> None:
    votes = [vote("ann", f"i{n}", 1.0) for n in range(5)]
    assert trust_of(votes, [-1.0] * 5)["ann"] < trust_of(votes, [-0.05] * 5)["ann"]


def test_tenants_do_not_vouch_for_each_other() -> None:
    votes = [vote("ann", "i1", 1.0, tenant="acme"), vote("ben", "i1", -1.0, tenant="other")]
    assert set(weigh(votes).trust.values()) == {1.0}


def test_many_votes_without_a_user_are_not_one_persons_burst() -> None:
    votes = [vote(None, f"i{n}", 1.0, n * 0.01) for n in range(200)]
    assert sum(weigh(votes).weights) == pytest.approx(200)
