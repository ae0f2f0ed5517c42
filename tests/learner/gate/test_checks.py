"""The checks by themselves: what passes by chance, and what does not."""

import pytest
from burnish.learner.gate import checks
from burnish.learner.gate.checks import GateLimits, paired_difference
from burnish.learner.gate.report import Check
from burnish.learner.gate.suite import Answers, distinct_bigrams

LIMITS = GateLimits()


def answers(length: int = 10, entropy: float = 1.0, diversity: float = 1.0) -> Answers:
    return Answers(texts=["x"] * 4, lengths=[length] * 4, entropy=entropy, diversity=diversity)


def skill_check(old: list[bool], new: list[bool]) -> Check:
    return checks.skill({"units": (old, new)}, LIMITS)


def test_sampling_noise_on_a_few_tasks_does_not_fail_a_candidate():
    old = [True] * 160 + [False] * 40
    new = [True] * 140 + [False] * 40 + [True] * 20  # 20 lost, 20 won
    assert skill_check(old, new).passed
    unlucky = [True] * 138 + [False] * 48 + [True] * 14  # 22 lost, 14 won
    assert skill_check(old, unlucky).passed


def test_a_lost_tenth_of_the_skill_does():
    old = [True] * 160 + [False] * 40
    new = [True] * 135 + [False] * 60 + [True] * 5  # 25 lost, 5 won
    assert not skill_check(old, new).passed


def test_the_family_that_lost_most_is_named():
    kept, lost = ([True] * 40, [True] * 40), ([True] * 40, [True] * 10 + [False] * 30)
    check = checks.families({"units": kept, "sorting": lost}, LIMITS)
    assert not check.passed
    assert check.says.startswith("sorting moved by -0.750")
    assert checks.families({"units": kept, "sorting": kept}, LIMITS).passed


@pytest.mark.parametrize(
    ("name", "candidate", "passed"),
    [
        ("length", {"length": 30}, True),
        ("length", {"length": 31}, False),
        ("length", {"length": 2}, False),
        ("entropy", {"entropy": 0.15}, True),
        ("entropy", {"entropy": 0.14}, False),
        ("diversity", {"diversity": 0.35}, True),
        ("diversity", {"diversity": 0.34}, False),
    ],
)
def test_length_entropy_and_diversity_are_bounded_relative_to_the_base(name, candidate, passed):
    check = getattr(checks, name)(answers(), answers(**candidate), LIMITS)
    assert (check.name, check.passed) == (name, passed)


def test_paired_difference():
    assert paired_difference([True, True], [True, False]) == (-0.5, pytest.approx(0.3535, abs=1e-3))


def test_repetition_lowers_diversity():
    assert distinct_bigrams([(1, 2, 3), (4, 5, 6)]) == 1.0
    assert distinct_bigrams([(1, 2, 3), (1, 2, 3)]) == 0.5
    assert distinct_bigrams([]) == 0.0
