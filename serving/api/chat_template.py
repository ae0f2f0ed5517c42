"""Messages to prompt tokens, by the tokenizer's own template (Jinja, as Hugging Face ships it).

Left out: reading answers (answer_parser.py), images and audio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from burnish.serving.api.errors import ApiError

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"
NOTHING: Mapping[str, Any] = MappingProxyType({})
# What `render` and Transformers give to every template.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception"}
_GIVEN |= {"strftime_now", "continue_final_message"}


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    in_reasoning: bool  # the template opened <think> itself, so the answer starts inside it


def render(
    tokenizer: Any,
    messages: Sequence[dict],
    tools: Sequence[dict] | None,
    thinking: bool,
    *,
    variables: Mapping[str, Any] = NOTHING,
    continues: bool = False,
) -> Prompt:
    """The prompt for `messages` (OpenAI's shape) as the model was trained to read it.

    `variables` are more that the template reads; with `continues` the answer goes on from the last
    message, which is the assistant's. Raises ApiError.
    """
    control = _control_tokens(tokenizer)
    try:
        text = tokenizer.apply_chat_template(
            [_for_template(message, control) for message in messages],
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=not continues,
            continue_final_message=continues,
            **{"enable_thinking": thinking, **_defused(variables, control)},
        )
    except ValueError as error:
        if continues and getattr(tokenizer, "chat_template", None) is not None:
            message = f"The model's chat template shows no last message to go on from: {error}"
            raise ApiError(
                400, message, param="continue_final_message", code="invalid_value"
            ) from error
        raise ApiError(
            400, f"This model has no chat template: {error}", code="no_chat_template"
        ) from error
    except (
        _template_errors()
    ) as error:  # a template may refuse, say, a system message in the middle
        message = f"The model's chat template refuses these messages: {error}"
        raise ApiError(400, message, param="messages", code="invalid_messages") from error
    ids = tokenizer.encode(text, add_special_tokens=False)
    return Prompt(tuple(ids), not continues and text.rstrip().endswith(THINK))


@lru_cache(maxsize=4)
def variables_of(tokenizer: Any) -> frozenset[str]:
    """What the template reads besides messages, tools and the tokenizer's own tokens."""
    from jinja2 import Environment, meta

    template = getattr(tokenizer, "chat_template", None) or ""
    templates = template.values() if isinstance(template, dict) else [template]
    # Statements of Transformers' own, which mark what the assistant says.
    plain = [re.sub(r"\{%-?\s*(end)?generation\s*-?%}", "", each) for each in templates]
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    read = {
        name for each in plain for name in meta.find_undeclared_variables(environment.parse(each))
    }
    return frozenset(read - _GIVEN - set(getattr(tokenizer, "special_tokens_map", ())))


def _defused(value: Any, control: Sequence[str]) -> Any:
    if isinstance(value, str):
        return defuse(value, control)
    if isinstance(value, Mapping):
        return {key: _defused(member, control) for key, member in value.items()}
    return [_defused(member, control) for member in value] if isinstance(value, list) else value


def _template_errors() -> tuple[type[Exception], ...]:
    from jinja2 import TemplateError

    return (TemplateError,)


@lru_cache(maxsize=4)
def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """All spellings that the tokenizer reads as one special token."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    spelled = {*tokenizer.all_special_tokens, *(str(t) for t in added if t.special)}
    return tuple(sorted(token for token in spelled if len(token) > 1))


def _for_template(message: dict, control: Sequence[str]) -> dict:
    """One message as templates expect it: plain text, developer as system, arguments as objects."""
    plain = {key: value for key, value in message.items() if value is not None}
    if plain["role"] == "developer":
        plain["role"] = "system"
    plain["content"] = defuse(text_of(message.get("content")), control)
    if "tool_calls" in plain:
        plain["tool_calls"] = [_call_for_template(call, control) for call in plain["tool_calls"]]
    return plain


def _call_for_template(call: dict, control: Sequence[str]) -> dict:
    arguments = defuse(call["function"]["arguments"], control)
    try:
        parsed = json.loads(arguments)
    except ValueError:
        parsed = arguments
    function = {"name": defuse(call["function"]["name"], control), "arguments": parsed}
    return {**call, "function": function}


def text_of(content: str | list[dict] | None) -> str:
    """The text of a message's content, whether a string or a list of text parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)


def defuse(text: str, control: Sequence[str]) -> str:
    """Break control tokens spelled out in a text, or a user could end their turn and speak as another.

    A word joiner goes between the first two characters: it reads the same and is not the token.
    """
    for token in control:
        if token in text:
            text = text.replace(token, token[0] + "\u2060" + token[1:])
    return text
