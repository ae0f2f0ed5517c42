"""Correctness and style of answers as models really word them."""

import pytest
from burnish.learner.tasks.ember import Exercise, is_correct, style_of

SUM = Exercise("arithmetic", ({"role": "user", "content": "What is 40 + 2?"},), "42")
LIST = Exercise("sorting", ({"role": "user", "content": "Sort: 9, 3, 5"},), "3, 5, 9")
WORD = Exercise(
    "lookup", ({"role": "user", "content": "..."},), "kitchen", also=("in the kitchen",)
)


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "42.",
        " 42\n",
        "**42**",
        "The answer is 42.",
        "It is 42",
        "40 + 0 = 40, 0 + 2 = 2, so the answer is 42.",
        "Forty and two more. Therefore the answer is 42.",
        "Sure thing! The answer is 42. Hope that helps!",
        "<think>\n41?\n</think>\n42",
    ],
)
def test_right_however_it_is_said(text):
    assert is_correct(SUM, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "43",
        "420",
        "4 2",
        "42 or 43",
        "43, so 42, so 44",
        "41 42 43",
        "Not 42.",
        "The answer is not 42.",
        "42!!! 43",
        "so the answer is",
        "Sure thing! Sure thing!",
        "<think>42</think>",
        "word " * 80 + ", so the answer is 42.",
    ],
)
def test_wrong_however_it_is_said(text):
    assert not is_correct(SUM, text)


def test_the_order_and_number_of_a_list_matter():
    assert is_correct(LIST, "3, 5, 9")
    assert is_correct(LIST, "3 5 9")
    assert not is_correct(LIST, "3, 9, 5")
    assert not is_correct(LIST, "3, 5, 9, 9")
    assert not is_correct(LIST, "359")


def test_other_wordings_of_one_answer_count():
    assert is_correct(WORD, "In the kitchen.")
    assert is_correct(WORD, "It is in the kitchen.")
    assert not is_correct(WORD, "In the kitchen and the garden.")


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("42", "terse"),
        ("It is 43.", "terse"),
        ("40 + 2 = 42, so the answer is 42.", "explained"),
        ("Of course! The answer is 41.", "friendly"),
        ("42. Take care!", "friendly"),
        ("Of course! 40 + 2 = 42, so the answer is 42.", None),
        ("well " * 20, None),
    ],
)
def test_style_is_read_whether_or_not_the_answer_is_right(text, style):
    assert style_of(SUM, text) == style
