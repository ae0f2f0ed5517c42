"""Reading answers: the same parts, however the text is cut into pieces."""

from __future__ import annotations

import pytest
from burnish.serving.api.chat_template import AnswerParser, Part, render
from burnish.serving.engine.stub import StubTokenizer


def parts(text: str, size: int, **options: bool) -> list[tuple[str, str, str]]:
    parser = AnswerParser(**options)
    found: list[Part] = []
    for start in range(0, len(text), size):
        found += parser.feed(text[start : start + size])
    found += parser.finish()
    joined: list[tuple[str, str, str]] = []
    for part in found:
        if joined and joined[-1][0] == part.kind != "tool_call":
            joined[-1] = (part.kind, joined[-1][1] + part.text, "")
        else:
            joined.append((part.kind, part.text, part.name))
    return joined


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 2, 5, 7, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain  text.\nTwo lines.\n", [("content", "Plain  text.\nTwo lines.\n", "")]),
        ("<think>why</think>\n\nSo.", [("reasoning", "why", ""), ("content", "So.", "")]),
        ("<think>\n\n</think>\n\nSo.", [("content", "So.", "")]),
        ("<think>never ends", [("reasoning", "never ends", "")]),
        ("a < b and <thin air", [("content", "a < b and <thin air", "")]),
        ("Say <think> aloud", [("content", "Say <think> aloud", "")]),
        (CALL, [("tool_call", '{"x": 1}', "f")]),
        (
            f"Well.\n{CALL}\n{CALL}",
            [("content", "Well.", "")] + 2 * [("tool_call", '{"x": 1}', "f")],
        ),
        ("<tool_call>not json</tool_call>", [("content", "<tool_call>not json</tool_call>", "")]),
        ('<tool_call>\n{"name": "f"', [("tool_call", "", "f")]),
        ('<tool_call>{"name": "f", "arg', [("tool_call", "", "f")]),
        ('<tool_call>{"name": "f", "arguments": {"x": "a', [("tool_call", '{"x": "a', "f")]),
        ('<tool_call>{"name": "f", "arguments": {"x": 1}}', [("tool_call", '{"x": 1}', "f")]),
        ("<tool_call>", []),
        ('Well. <tool_call>\n{"na', [("content", "Well.", "")]),
        ('<tool_call>{"name": "f', []),
        (r'<tool_call>{"name": "\q"', [("content", r'<tool_call>{"name": "\q"', "")]),
        ("<tool_call>{x", [("content", "<tool_call>{x", "")]),
        ('<tool_call>{"name": "f", "x": 1', [("content", '<tool_call>{"name": "f", "x": 1', "")]),
    ],
)
def test_parts_do_not_depend_on_the_pieces(
    text: str, expected: list[tuple[str, str, str]], size: int
) -> None:
    assert parts(text, size, tools=True) == expected


def test_without_tools_call_markup_is_text() -> None:
    assert parts(CALL, 3) == [("content", CALL, "")]


def test_an_answer_may_begin_inside_reasoning() -> None:
    found = parts("hm</think>Yes", 2, in_reasoning=True)
    assert found == [("reasoning", "hm", ""), ("content", "Yes", "")]


def test_content_parts_are_joined_and_developer_is_system() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    prompt = render(StubTokenizer(), [{"role": "developer", "content": content}], None, False)
    assert bytes(prompt.ids).startswith(b"system: ab<|end|>")
    assert not prompt.in_reasoning
    assert render(StubTokenizer(), [{"role": "user", "content": "x"}], None, True).in_reasoning
