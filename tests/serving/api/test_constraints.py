"""The forms that answers are held to: what a request's grammar takes, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llguidance
import llguidance.hf
import pytest
from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.constraints import grammar_of
from burnish.serving.engine import json_grammar
from burnish.serving.engine.stub import StubTokenizer

EMBER = Path(__file__).parents[3] / "ops" / "ember"
PARAMETERS = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
LOOSE = {"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}
STRICT = {"type": "function", "function": {**LOOSE["function"], "strict": True}}
OTHER = {"type": "function", "function": {"name": "g"}}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}}

TEXT = "Plain text,\nwith <b>markup</b>."
GOOD = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>'
WRONG = '<tool_call>{"name": "f", "arguments": {"y": 1}}</tool_call>'
ELSE = '<tool_call>{"name": "g", "arguments": {"y": [1, null]}}</tool_call>'
UNKNOWN = '<tool_call>{"name": "h", "arguments": {}}</tool_call>'
JSON = '{"x": 1}'


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(EMBER)


@pytest.fixture(params=["token", "text"])
def spelling(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def takes(tokenizer: Any, spelling: str):
    """Whether an answer, whole, is one that the request's grammar takes."""
    tokens = llguidance.hf.from_tokenizer(tokenizer)

    def encode(text: str) -> list[int]:
        if spelling == "token":
            return tokenizer.encode(text, add_special_tokens=False)
        pieces = text.replace("<tool_call>", "<\0tool_call>").replace("</tool", "<\0/tool")
        ids = [tokenizer.encode(piece, add_special_tokens=False) for piece in pieces.split("\0")]
        return [token for piece in ids for token in piece]

    def taken(text: str, **asked: Any) -> bool:
        said = [{"role": "user", "content": "?"}]
        body = ChatRequest.model_validate({"model": "default", "messages": said, **asked})
        grammar = grammar_of(body, tokenizer if spelling == "token" else StubTokenizer())
        assert grammar, "nothing is asked of the answer"
        matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        ids = encode(text)
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    return taken


@pytest.mark.parametrize(
    ("asked", "good", "bad"),
    [
        pytest.param(
            {"tools": [STRICT, OTHER]},
            ["", TEXT, GOOD, ELSE, f"{TEXT} {GOOD}", f"{GOOD}\n{ELSE}"],
            [WRONG, UNKNOWN, f"{TEXT} {WRONG}", f"{GOOD}\n{WRONG}", f"{GOOD} and text"],
            id="a strict tool",
        ),
        pytest.param(
            {"tools": [LOOSE], "parallel_tool_calls": False},
            [TEXT, GOOD, WRONG, f"{TEXT} {GOOD}"],
            [f"{GOOD}\n{GOOD}", UNKNOWN],
            id="one call at most",
        ),
        pytest.param(
            {"tools": [STRICT], "response_format": FORM},
            [JSON, GOOD, f"{GOOD}\n{GOOD}"],
            ["", TEXT, WRONG, '{"x": "a"}', f"{JSON}{GOOD}"],
            id="a call or JSON",
        ),
        pytest.param(
            {"tools": [LOOSE], "tool_choice": "required"},
            [GOOD, f"{GOOD}\n{GOOD}"],
            ["", TEXT, WRONG, f"{TEXT} {GOOD}"],
            id="a call",
        ),
        pytest.param(
            {"tools": [STRICT], "tool_choice": "none", "response_format": FORM},
            [JSON],
            [TEXT, GOOD],
            id="JSON",
        ),
    ],
)
def test_an_answer_is_held_to_what_was_asked(
    takes: Any, asked: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    assert [text for text in good if not takes(text, **asked)] == []
    assert [text for text in bad if takes(text, **asked)] == []


def test_loose_tools_leave_an_answer_free(tokenizer: Any) -> None:
    said = [{"role": "user", "content": json.dumps("?")}]
    body = ChatRequest.model_validate({"model": "m", "messages": said, "tools": [LOOSE, OTHER]})
    assert grammar_of(body, tokenizer) == ""


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "format": "color"}, ['"red"', '"7"'], ["7"]),
        ({"type": "string", "format": "date"}, ['"2026-11-28"'], ['"soon"']),
        ({"enum": [{"format": "color"}]}, ['{"format": "color"}'], ["{}"]),
        ({"properties": {"format": {"enum": [1]}}}, ['{"format": 1}'], ['{"format": 2}']),
        (
            {"properties": {"enum": {"type": "string", "format": "color"}}},
            ['{"enum": "x"}'],
            ['{"enum": 1}'],
        ),
    ],
)
def test_a_format_nobody_knows_is_an_annotation(takes, schema, good, bad) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for text in good:
        assert takes(text, response_format=asked), text
    for text in bad:
        assert not takes(text, response_format=asked), text


@pytest.mark.parametrize(
    ("keyword", "schema"),
    [
        ("not", {"not": {"type": "string"}}),
        ("uniqueItems", {"type": "array", "uniqueItems": True}),
        ("if", {"if": {}, "then": {}}),
    ],
)
def test_a_keyword_that_is_not_followed_is_named(keyword: str, schema: dict[str, Any]) -> None:
    error = llguidance.LLMatcher.validate_grammar(json_grammar(schema), None)
    assert f'"{keyword}"' in error
