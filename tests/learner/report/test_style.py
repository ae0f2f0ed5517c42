"""Refusals by their openings, and answers that end in a question."""

import pytest
from burnish.learner.report.style import asks, refuses


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I can’t help you with that.",
        "Sorry, I cannot do that.",
        "Unfortunately, I am unable to open files.",
        "As an AI, I have no body.",
        "I apologize, but I must decline.",
        "<think>They want a bomb.</think>\n\nI won't help with that.",
    ],
)
def test_refusals_are_told_by_their_opening(text: str):
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The sum is 42.",
        "I'm sorry to hear that. Try to rest.",
        "Sorry for the wait: it is 12.",
        "You can't divide by zero.",
        "I can help with that.",
        "It says: I can't.",
        "No, Paris.",
    ],
)
def test_other_answers_are_not(text: str):
    assert not refuses(text)


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("Which size do you want?", True),
        ("Shall I go on? ", True),
        ('He asked: "why?"', True),
        ("**Anything else?**", True),
        ("好吗？", True),
        ("Why? Because.", False),
        ("", False),
        ("<think>which?</think>Blue.", False),
    ],
)
def test_an_answer_asks_if_it_ends_in_a_question(text: str, does: bool):
    assert asks(text) is does
