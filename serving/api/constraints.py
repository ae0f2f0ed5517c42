"""The output format a request asks for, as a grammar for the engine.

`response_format` asks for JSON, `tool_choice` for a call. Where the model may choose (`auto`), a
strict tool, an end after one call, or both forms at once leave text free and bind what follows a
call's opening. Thinking comes before it and is free; the engine sees to that. Left out: other formats.
"""

from __future__ import annotations

import json
from typing import Any

from burnish.serving.api.chat_requests import ChatRequest, Tool
from burnish.serving.api.chat_template import CALL, END_CALL
from burnish.serving.api.errors import ApiError
from burnish.serving.engine.grammars import json_grammar, json_terminal


def grammar_of(body: ChatRequest, tokenizer: Any) -> str:
    """The grammar an answer must keep to, which the engine checks; empty when it is free.

    ApiError names the field of what cannot be asked at all.
    """
    answer = _answer_schema(body)
    if not body.tools or body.tool_choice == "none":
        return "" if answer is None else json_grammar(answer)
    tags = [_terminal(tag, tokenizer) for tag in (CALL, END_CALL)]
    if body.tool_choice not in (None, "auto"):
        return "start: calls\n" + _calls(body, *tags)
    if answer is not None:
        form = json_terminal(answer)
        return f"start: calls | answer\nanswer: %json {form}\n" + _calls(body, *tags)
    if body.parallel_tool_calls is False or any(tool.function.strict for tool in body.tools):
        return _text_before(tags[0]) + _calls(body, *tags)
    return ""


def _answer_schema(body: ChatRequest) -> dict[str, Any] | None:
    """Of an answer that is no call; None where it is free."""
    form = body.response_format
    if form is None or form.type == "text":
        return None
    return {"type": "object"} if form.json_schema is None else form.json_schema.schema_


def _calls(body: ChatRequest, opening: str, closing: str) -> str:
    """`calls`: one call, or where they are allowed several, in the markup models write."""
    calls = [_call(tool, body) for tool in _allowed(body)]
    schema = json_terminal(calls[0] if len(calls) == 1 else {"anyOf": calls})
    more = '""' if body.parallel_tool_calls is False else '("\\n"? call)*'
    return (
        f"calls: call more\nmore: {more}\ncall: {opening} rest\n"
        f"rest: json {closing}\njson: %json {schema}\n"
    )


def _text_before(opening: str) -> str:
    """Text, calls, or both, the text first. Where the opening is a token of its own, text cannot hold
    it; elsewhere text ends with the first one that it holds."""
    by_token = opening.startswith("<[")
    opened = f"opened: TEXT? {opening}" if by_token else f"opened[lazy]: /(.|\\n)*{CALL}/"
    return f"start: TEXT? | opened rest more\n{opened}\nTEXT: /(.|\\n)+/\n"


def _allowed(body: ChatRequest) -> list[Tool]:
    tools = body.tools or []
    if body.tool_choice in (None, "auto", "required"):
        return tools
    assert not isinstance(body.tool_choice, str)
    assert body.tool_choice is not None
    name = body.tool_choice.function.name
    named = [tool for tool in tools if tool.function.name == name]
    if not named:
        raise ApiError(400, f"No tool is called '{name}'.", param="tool_choice")
    return named


def _call(tool: Tool, body: ChatRequest) -> dict[str, Any]:
    """A call of the tool. Where the model may choose, only a strict tool binds its arguments."""
    function = tool.function
    bound = function.strict or body.tool_choice not in (None, "auto")
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.name},
            "arguments": (function.parameters if bound else None) or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _terminal(tag: str, tokenizer: Any) -> str:
    """A tag as Lark has it: by its id where it is one token of its own, else as text."""
    for token, added in getattr(tokenizer, "added_tokens_decoder", {}).items():
        if added.content == tag:
            return f"<[{token}]>"
    return json.dumps(tag)
