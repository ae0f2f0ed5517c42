"""A malicious or hasty few weigh little; an honest many weigh what they should."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest
from burnish.feedback.judgements import Judgement
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Rater
from burnish.feedback.trust.weighing import weigh
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import judged, vote

SMALL = TrustPolicy(user_votes=3, window_s=100, burst_votes=4, burst_s=5)

Expected = list[float | None]
VOTES = st.lists(
    st.tuples(
        st.builds(
            vote,
            st.sampled_from(["ann", "ben", "cid", None]),
            st.sampled_from(["i1", "i2", "i3"]),
            st.sampled_from([-1.0, 1.0, 0.2]),
            st.floats(0, 250),
            tenant=st.sampled_from(["acme", "other", "third"]),
            key_id=st.sampled_from(["k1", "k2", "k3", None]),
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


def weights_of(
    votes: list[Judgement], expected: Sequence[float | None] | None = None
) -> dict[str, float]:
    """Of each user the weight of the first vote."""
    weights = weigh(votes, expected).weights
    found: dict[str, float] = {}
    for v, weight in zip(votes, weights, strict=True):
        found.setdefault(v.user or "", weight)
    return found


@given(VOTES)
def test_weights_are_bounded_and_one_for_each_vote(given_votes) -> None:
    votes, expected = given_votes
    weighed = weigh(votes, expected, SMALL)
    assert len(weighed.weights) == len(votes)
    assert all(0 <= weight <= 1 for weight in weighed.weights)
    assert all(0 < reliable < 1 for reliable in weighed.reliability.values())


@given(VOTES, st.randoms(use_true_random=False))
def test_the_order_of_the_votes_makes_no_difference(given_votes, rng) -> None:
    votes, expected = given_votes
    votes = [replace(v, id=str(n)) for n, v in enumerate(votes)]
    order = list(range(len(votes)))
    rng.shuffle(order)
    before = weigh(votes, expected, SMALL).weights
    after = weigh([votes[i] for i in order], [expected[i] for i in order], SMALL).weights
    assert [before[i] for i in order] == pytest.approx(list(after))


def totals(votes: Sequence[Judgement], weights: Sequence[float], of) -> dict:
    """The weight of each group within each window."""
    found: dict = defaultdict(float)
    for v, weight in zip(votes, weights, strict=True):
        found[int(v.time / SMALL.window_s), *of(v)] += weight
    return found


@given(VOTES)
def test_nobody_weighs_more_than_the_cap_in_a_window(given_votes) -> None:
    votes, _ = given_votes
    weights = weigh(votes, None, SMALL).weights
    of_raters: dict = defaultdict(float)
    for v, weight in zip(votes, weights, strict=True):
        if v.user is not None:
            of_raters[int(v.time / SMALL.window_s), v.tenant, v.user, v.key_id] += weight
    assert all(weight <= SMALL.user_votes + 1e-9 for weight in of_raters.values())


@given(VOTES, st.sampled_from([0.4, 0.5, 0.8]))
def test_no_tenant_and_no_key_has_more_than_its_share(given_votes, share: float) -> None:
    votes, expected = given_votes
    policy = replace(SMALL, key_share=share, tenant_share=share, update_share=1.0, user_votes=1)
    weights = weigh(votes, expected, policy).weights
    wholes = totals(votes, weights, lambda _: ())
    tenants = totals(votes, weights, lambda v: (v.tenant,))
    keys = totals(votes, weights, lambda v: (v.tenant, v.key_id))
    for (window, tenant), weight in tenants.items():
        rivals = [t for w, t in tenants if w == window]
        fair = max(share, 1 / len(rivals)) if len(rivals) > 1 else 1.0
        assert weight <= max(policy.user_votes, fair * wholes[window,]) + 1e-9, tenant
    for (window, tenant, key), weight in keys.items():
        rivals = [k for w, t, k in keys if (w, t) == (window, tenant)]
        fair = max(share, 1 / len(rivals)) if len(rivals) > 1 else 1.0
        assert weight <= max(policy.user_votes, fair * tenants[window, tenant]) + 1e-9, key


@pytest.mark.parametrize("groups", ["key_id", "tenant"])
def test_one_key_that_poses_as_a_crowd_weighs_as_much_as_one_user(groups: str) -> None:
    honest = [vote(f"u{n}", f"h{n}", 1.0, n, **{groups: f"g{n % 3}"}) for n in range(600)]
    crowd = [vote(f"fake{n}", f"f{n}", -1.0, n / 2, **{groups: "mallory"}) for n in range(5000)]
    weighed = weigh(honest + crowd)
    assert sum(weighed.weights[:600]) == pytest.approx(600)
    assert sum(weighed.weights[600:]) == pytest.approx(TrustPolicy().user_votes)
    assert weighed.capped == 5000


def test_who_is_alone_is_not_cut_and_a_tiny_rival_silences_nobody() -> None:
    crowd = [vote(f"u{n}", f"h{n}", 1.0, n, key_id="backend") for n in range(1000)]
    assert sum(weigh(crowd).weights) == pytest.approx(1000)
    tester = vote("eve", "t", 1.0, key_id="tester")
    weights = weigh([*crowd, tester]).weights
    assert sum(weights[:-1]) == pytest.approx(TrustPolicy().user_votes)
    assert weights[-1] == 1.0


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 60))
def test_more_votes_of_a_key_never_make_it_weigh_less(mine: int, more: int, others: int) -> None:
    policy = replace(SMALL, user_votes=1)

    def total(count: int) -> float:
        own = [vote(f"m{n}", f"m{n}", 1.0, key_id="mine") for n in range(count)]
        rest = [vote(f"o{n}", f"o{n}", 1.0, key_id="other") for n in range(others)]
        return sum(weigh(own + rest, None, policy).weights[:count])

    assert total(mine + more) >= total(mine) - 1e-9


def test_voting_as_somebody_else_harms_only_that_name_under_that_key() -> None:
    own = [vote("ann", f"i{n}", 1.0, n * 60.0, key_id="ann's") for n in range(10)]
    posed = [vote("ann", f"x{n}", -1.0, n * 0.1, key_id="mallory's") for n in range(50)]
    weighed = weigh(own + posed)
    assert weighed.quarantined_users == {Rater("acme", "ann", "mallory's")}
    assert weighed.weights[:10] == pytest.approx([1.0] * 10)


def test_quarantine_holds_for_whatever_the_rater_says_of_those_answers() -> None:
    burst = [vote("ann", f"b{n}", 1.0, n * 0.1) for n in range(31)]
    after = [
        judged("signal", "copied", interaction_id="b3", time=500.0),
        judged("signal", "copied", interaction_id="b3", time=50_000.0),
        vote("ann", "new", 1.0, 1000.0),
        vote("ann", "next day", 1.0, 90_000.0),
        judged("signal", "copied", "ben", interaction_id="b3", time=500.0),
    ]
    weights = weigh(burst + after).weights[31:]
    assert [weight > 0 for weight in weights] == [False, False, False, True, True]


def test_a_judgement_of_a_long_session_is_one_judgement() -> None:
    session = [
        judged(id="fb", interaction_id=f"i{n}", session_id="s", share=1 / 300) for n in range(300)
    ]
    weighed = weigh(session)
    assert (weighed.quarantined, weighed.capped) == (0, 0)
    assert weighed.weights == pytest.approx([1.0] * 300)


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
    assert weighed.quarantined_users == {Rater("acme", "ann")}
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
    weight = weights_of(votes, expected)
    liars = [weight[f"u{n}"] for n in range(5)]
    honest = [weight[f"u{n}"] for n in range(5, 50)]
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
    weight = weights_of(votes)
    assert max(weight[f"u{n}"] for n in range(3)) <= 0.1
    assert min(weight[f"u{n}"] for n in range(3, 12)) == 1.0


def test_a_newcomer_counts_in_full_and_a_little_bad_luck_costs_little() -> None:
    one = [vote("ann", "i1", 1.0)]
    assert weights_of(one)["ann"] == pytest.approx(1.0)
    assert 0.5 < weights_of(one, [-1.0])["ann"] < 1.0


def test_agreeing_more_never_costs_trust() -> None:
    votes, expected = cast(users=1, each=12, flips=0.3)
    before = weights_of(votes, expected)["u0"]
    after = weights_of([*votes, vote("u0", "new", 1.0, 9e5)], [*expected, 0.9])["u0"]
    assert after >= before


def test_an_uncertain_expectation_teaches_little() -> None:
    votes = [vote("ann", f"i{n}", 1.0) for n in range(5)]
    assert weights_of(votes, [-1.0] * 5)["ann"] < weights_of(votes, [-0.05] * 5)["ann"]


def test_tenants_do_not_vouch_for_each_other() -> None:
    votes = [vote("ann", "i1", 1.0, tenant="acme"), vote("ben", "i1", -1.0, tenant="other")]
    assert weigh(votes).weights == pytest.approx((1.0, 1.0))


def test_a_judgement_that_names_nobody_counts_as_that_of_who_asked() -> None:
    quick = [
        judged("thumbs", "up", None, interaction_id=f"i{n}", time=n * 0.1, asker="ann")
        for n in range(50)
    ]
    weighed = weigh([*quick, vote("ben", "i1", 1.0)])
    assert weighed.quarantined_users == {Rater("acme", "ann")}
    assert weighed.weights[-1] == 1.0


def test_the_anonymous_share_a_quarter_of_their_keys_weight() -> None:
    named = [vote(f"u{n}", f"n{n}", 1.0, n) for n in range(900)]
    anonymous = [vote(None, f"a{n}", -1.0, n / 2) for n in range(5000)]
    weights = weigh(named + anonymous).weights
    assert sum(weights[:900]) == pytest.approx(900)
    assert sum(weights[900:]) == pytest.approx(300)


def test_where_nobody_is_named_all_votes_count() -> None:
    assert sum(weigh([vote(None, f"a{n}", 1.0, n) for n in range(5000)]).weights) == 5000


def test_nobody_decides_alone_what_a_crowd_rates() -> None:
    crowd = [vote(f"u{n}", f"n{n}", 1.0, n) for n in range(60)]
    busy = [vote("busy", f"b{n}", -1.0, n * 60) for n in range(150)]
    votes = crowd + busy
    weights = weigh(votes, kinds=["poems"] * len(votes)).weights
    assert sum(weights[:60]) == pytest.approx(60)
    assert sum(weights[60:]) == pytest.approx(TrustPolicy().kind_votes)
    few = crowd[:10] + busy
    assert sum(weigh(few, kinds=["poems"] * len(few)).weights) == pytest.approx(160)


def test_many_votes_without_a_user_are_not_one_persons_burst() -> None:
    votes = [vote(None, f"i{n}", 1.0, n * 0.01) for n in range(200)]
    assert sum(weigh(votes).weights) == pytest.approx(200)


@given(VOTES)
def test_each_weight_below_one_has_a_reason(given_votes) -> None:
    votes, expected = given_votes
    weighed = weigh(votes, expected, SMALL)
    for v, weight, reason in zip(votes, weighed.weights, weighed.reasons, strict=True):
        assert (reason != "") == (weight < 1), v
        assert reason != "burst" or weight == 0
    assert sum(reason == "burst" for reason in weighed.reasons) == weighed.quarantined


def test_the_reason_is_what_took_most() -> None:
    fast = [vote("fast", f"f{n}", 1.0, n / 10) for n in range(5)]
    many = [vote("many", f"m{n}", 1.0, 10 + n * 2) for n in range(40)]
    reasons = weigh([*fast, *many], None, SMALL).reasons
    assert set(reasons[:5]) == {"burst"}
    assert set(reasons[5:]) == {"cap"}


def test_what_is_heard_is_what_caps_leave_whoever_is_believed() -> None:
    liar = [vote("eve", f"i{n}", -1.0, 60.0 * n) for n in range(20)]
    honest = [vote(f"u{n % 5}", f"i{n}", 1.0, 60.0 * n + 1) for n in range(20)]
    found = weigh([*liar, *honest], [0.9] * 40)
    assert max(found.weights[:20]) < 0.2
    assert found.heard == (1.0,) * 40
    few = weigh([*liar, *honest], [0.9] * 40, replace(TrustPolicy(), user_votes=2.0))
    assert few.heard[20] < 1
    assert few.heard[20] == pytest.approx(few.weights[20], rel=0.2)
    burst = [vote("eve", f"i{n}", 1.0, n / 100) for n in range(40)]
    assert set(weigh(burst).heard) == {0.0}
