"""Choosing among candidates: by score, within what can be judged; what was cut off comes last."""

from burnish.serving.reward.choosing import MARGIN, SUPPORT, Candidate, counting, ranked
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.floats(-9, 9)
CANDIDATES = st.lists(
    st.builds(Candidate, st.booleans(), NUMBERS, NUMBERS, st.floats(0, 1)), min_size=1, max_size=16
)


def candidate(score: float = 0.5, **changes) -> Candidate:
    return Candidate(
        **{"finished": True, "logprob": -1.0, "score": score, "support": 1.0, **changes}
    )


def test_the_best_score_is_first():
    assert ranked([candidate(0.2), candidate(0.9), candidate(0.5)]) == [1, 2, 0]


def test_an_unlikely_candidate_does_not_count_however_it_is_liked():
    strange = candidate(0.99, logprob=-1.0 - MARGIN - 0.1)
    assert ranked([candidate(0.2), strange, candidate(0.3)]) == [2, 0, 1]


def test_a_likely_one_counts():
    assert counting([candidate(), candidate(logprob=0.0), candidate()]) == [True] * 3


def test_a_candidate_far_from_what_was_judged_does_not_count():
    far = candidate(0.99, support=SUPPORT * 0.9)
    assert ranked([candidate(0.2), far, candidate(0.3)]) == [2, 0, 1]


def test_what_was_cut_off_comes_after_all_that_ended():
    cut = candidate(0.99, finished=False)
    strange = candidate(0.1, logprob=-9.0)
    assert ranked([cut, strange, candidate(0.2)]) == [2, 1, 0]


def test_without_one_that_counts_the_first_sample_is_given():
    unlikely = candidate(0.9, logprob=-9.0)
    unsupported = candidate(0.8, support=0.0)
    group = [unsupported, unlikely, candidate(0.7, support=0.1), candidate(0.6, logprob=-9.0)]
    assert not any(counting(group))
    assert ranked(group) == [0, 1, 2, 3]


@given(CANDIDATES)
def test_every_candidate_has_one_place(candidates):
    places = ranked(candidates)
    assert sorted(places) == list(range(len(candidates)))
    ended = [candidates[place].finished for place in places]
    assert ended == sorted(ended, reverse=True)


@given(CANDIDATES, st.randoms())
def test_the_first_of_those_that_count_does_not_depend_on_the_order_sampled(candidates, random):
    best = candidates[ranked(candidates)[0]]
    mixed = random.sample(candidates, len(candidates))
    if any(
        counted and one.finished
        for one, counted in zip(candidates, counting(candidates), strict=True)
    ):
        assert mixed[ranked(mixed)[0]].score == best.score
