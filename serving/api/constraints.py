"""The output format a request asks for, as a grammar for the engine.

`response_format` asks for JSON, `tool_choice` for a call. Thinking comes before it and is free; the
engine sees to that. Left out: other formats.
"""

from __future__ import annotations

import json
from typing import Any

from burnish.serving.api.chat_template import CALL, END_CALL
from burnish.serving.api.errors import ApiError
from burnish.serving.api.openai_requests import ChatRequest, Tool
from burnish.serving.engine.grammars import SPACING, json_grammar


def grammar_of(body: ChatRequest, tokenizer: Any) -> str:
    """The grammar an answer must keep to, which the engine checks; empty when it is free.

    ApiError names the field of what cannot be asked at all.
    """
    must_call = body.tool_choice not in (None, "auto", "none")
    form = body.response_format
    if must_call:
        return _calls(body, tokenizer)
    if form is None or form.type == "text":
        return ""
    schema = {"type": "object"} if form.json_schema is None else form.json_schema.schema_
    return json_grammar(schema)


def _calls(body: ChatRequest, tokenizer: Any) -> str:
    """One tool call, or where they are allowed several, in the markup models write."""
    calls = [_call(tool) for tool in _allowed(body)]
    schema = json.dumps(calls[0] if len(calls) == 1 else {"anyOf": calls})
    opening, closing = (_terminal(tag, tokenizer) for tag in (CALL, END_CALL))
    many = "" if body.parallel_tool_calls is False else ' ("\\n"? call)*'
    return f"start: call{many}\ncall: {opening} json {closing}\njson: %json {schema}\n"


def _allowed(body: ChatRequest) -> list[Tool]:
    tools = body.tools or []
    if body.tool_choice == "required":
        return tools
    assert not isinstance(body.tool_choice, str)
    assert body.tool_choice is not None
    name = body.tool_choice.function.name
    named = [tool for tool in tools if tool.function.name == name]
    if not named:
        raise ApiError(400, f"No tool is called '{name}'.", param="tool_choice")
    return named


def _call(tool: Tool) -> dict[str, Any]:
    function = tool.function
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.name},
            "arguments": function.parameters or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
        "x-guidance": SPACING,
    }


def _terminal(tag: str, tokenizer: Any) -> str:
    """A tag as Lark has it: by its id where it is one token of its own, else as text."""
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.content == tag:
            return f"<[{token}]>"
    return json.dumps(tag)
