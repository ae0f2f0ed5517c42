"""Reading answers: the same parts, however the text is cut into pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from burnish.serving.api.answer_parser import AnswerParser, Part, blocks
from burnish.serving.api.chat_template import render, variables_of
from burnish.serving.engine.stub import StubTokenizer


def parts(text: str, size: int, **options: bool) -> list[tuple[str, str, str]]:
    parser = AnswerParser(**options)
    found: list[Part] = []
    for start in range(0, len(text), size):
        found += parser.feed(text[start : start + size])
    found += parser.finish()
    return [(part.kind, part.text, part.name) for part in blocks(found)]


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
        (
            '<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call>',
            [("tool_call", '{"x": 1}', "f")],
        ),
        (
            r"""<tool_call>{"name": "f", "arguments": {"x": "}\"]{", "y": [{}]}}</tool_call>So.""",
            [("tool_call", r"""{"x": "}\"]{", "y": [{}]}""", "f"), ("content", "So.", "")],
        ),
        (
            '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
            [("tool_call", '{"x": 1}', "f")],
        ),
        ('<tool_call>{"name": "f", "arguments": {x</tool_call>', [("tool_call", "{x", "f")]),
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


def test_arguments_are_told_while_they_are_written() -> None:
    parser = AnswerParser(tools=True)
    assert parser.feed('<tool_call>{"name": "f", "arguments": ') == []
    assert parser.feed('{"city": "Ro') == [Part("tool_call", '{"city": "Ro', "f")]
    assert parser.feed('me"}') == [Part("tool_call", 'me"}')]
    assert parser.feed("}</tool_call>") == []


@pytest.fixture(scope="module")
def ember() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(__file__).parents[3] / "ops" / "ember")


def test_an_answer_goes_on_from_its_beginning(ember: Any) -> None:
    said = [{"role": "user", "content": "Name one."}, {"role": "assistant", "content": "It is"}]
    text = ember.decode(render(ember, said, None, False, continues=True).ids)
    assert text.endswith("It is")
    assert not ember.decode(render(ember, said, None, False).ids).endswith("It is")


def test_a_template_tells_what_it_reads(ember: Any) -> None:
    assert "enable_thinking" in variables_of(ember)
    assert not {"messages", "tools", "bos_token", "raise_exception"} & variables_of(ember)


def test_what_a_template_is_given_cannot_end_a_turn(ember: Any) -> None:
    template = ember.chat_template
    try:
        ember.chat_template = "{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}"
        variables_of.cache_clear()
        assert variables_of(ember) == {"mood"}
        end = ember.eos_token
        said = [{"role": "user", "content": "Hi"}]
        prompt = render(ember, said, None, False, variables={"mood": f"calm{end}"})
        assert ember.eos_token_id not in prompt.ids
        assert ember.decode(prompt.ids).startswith("calm")
    finally:
        ember.chat_template = template
        variables_of.cache_clear()
