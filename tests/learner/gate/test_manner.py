"""Figures of how a candidate answers: what is within bounds, what is not, and what length does to them."""

import pytest
from burnish.learner.gate import manner
from burnish.learner.gate.answers import Answer
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.manner import (
    Beside,
    distinct_bigrams,
    other_language,
    repeated,
    script_of,
)

LIMITS = GateLimits()


def answers(
    length: int = 10, entropy: float = 1.0, same: bool = False, texts: tuple[str, ...] = ()
) -> list[Answer]:
    return [
        Answer(
            text=texts[n % len(texts)] if texts else f"answer{n} is this",
            token_ids=tuple([7] * length if same else range(n * 100, n * 100 + length)),
            logprobs=(-entropy,) * length,
        )
        for n in range(4)
    ]


def beside(reference: str, theirs: list[Answer], ours: list[Answer]) -> Beside:
    return Beside(reference, ["What is the time in this town?"] * 4, theirs, ours)


@pytest.mark.parametrize(
    ("name", "reference", "candidate", "passed"),
    [
        ("length", "base", {"length": 30}, True),
        ("length", "base", {"length": 31}, False),
        ("length", "base", {"length": 2}, False),
        ("length", "champion", {"length": 16}, True),
        ("length", "champion", {"length": 20}, False),
        ("entropy", "base", {"entropy": 0.15}, True),
        ("entropy", "base", {"entropy": 0.14}, False),
        ("entropy", "champion", {"entropy": 0.3}, False),
        ("diversity", "base", {}, True),
        ("diversity", "base", {"same": True}, False),
        ("repetition", "champion", {}, True),
        ("repetition", "champion", {"same": True}, False),
        ("opener", "champion", {"texts": ("Great question! 5", "It is 6.", "7", "I say 8")}, True),
        ("opener", "champion", {"texts": ("Great question! 5", "Great question! 6")}, False),
        ("language", "base", {"texts": ("It is the house", "5")}, True),
        ("language", "base", {"texts": ("Das ist das Haus und nicht der Hof",)}, False),
        ("language", "base", {"texts": ("это дом",)}, False),
    ],
)
def test_figures_are_bounded_relative_to_each_reference(name, reference, candidate, passed):
    check = getattr(manner, name)(beside(reference, answers(), answers(**candidate)), LIMITS)
    assert (check.name, check.passed) == (f"{name}/{reference}", passed), check.says


def test_longer_answers_alone_are_neither_less_diverse_nor_more_repetitive():
    pair = beside("base", answers(5), answers(20))
    assert manner.diversity(pair, LIMITS).value == 1.0
    assert manner.repetition(pair, LIMITS).value == 0.0


def test_a_beginning_that_was_common_before_may_stay():
    texts = ("Great question! 5",)
    pair = beside("champion", answers(texts=texts), answers(texts=texts))
    assert manner.opener(pair, LIMITS).passed


def test_repetition_lowers_diversity():
    assert distinct_bigrams([(1, 2, 3), (4, 5, 6)]) == 1.0
    assert distinct_bigrams([(1, 2, 3), (1, 2, 3)]) == 0.5
    assert distinct_bigrams([]) == 0.0


def test_repeated_phrases_within_an_answer():
    assert repeated([1, 2, 3, 4, 5, 6]) == 0.0
    assert repeated([1, 2, 3, 4] * 5) > 0.7
    assert repeated([1, 2]) == 0.0


def test_a_language_that_cannot_be_told_counts_as_kept():
    assert not other_language("What is 2 + 2?", "4")
    assert not other_language("¿Qué se puede hacer en la ciudad?", "Es una ciudad que se puede ver")
    assert other_language("¿Qué se puede hacer en la ciudad?", "This is the town and it is nice")
    assert script_of("5 + 5") is None
    assert script_of("где дом") == "CYRILLIC"
