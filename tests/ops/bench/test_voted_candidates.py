"""The crowd of the gate's bench: a fifth of it likes another style than the rest, in every family."""

from burnish.learner.tasks.ember import FAMILIES
from burnish.ops.bench.lib.voted_candidates import SPOKEN, with_minority


def test_a_fifth_likes_another_style_than_the_rest_everywhere():
    people = with_minority(seed=0)
    apart = [user for user in people.users if user.preferred_styles != people.preferred]
    assert len(apart) == len(people.users) / 5
    assert all(
        user.preferred_styles[family] != people.preferred[family]
        for user in apart
        for family in FAMILIES
    )


def test_lessons_are_of_families_that_are_answered_in_words():
    assert SPOKEN
    assert "tool_call" not in SPOKEN
