"""Messages to prompt tokens, and the model's text back to reasoning, content and tool calls.

The template is the tokenizer's own (Jinja, as Hugging Face ships it). Answers are read in the
markup most open models share: `<think>...</think>` and `<tool_call>{json}</tool_call>`.
Left out: images and audio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.serving.api.errors import ApiError

THINK, END_THINK = "<think>", "</think>"
CALL, END_CALL = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Prompt:
    ids: tuple[int, ...]
    in_reasoning: bool  # the template opened <think> itself, so the answer starts inside it


def render(
    tokenizer: Any, messages: Sequence[dict], tools: Sequence[dict] | None, thinking: bool
) -> Prompt:
    """The prompt for `messages` (OpenAI's shape) as the model was trained to read it."""
    control = _control_tokens(tokenizer)
    try:
        text = tokenizer.apply_chat_template(
            [_for_template(message, control) for message in messages],
            tools=list(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
    except ValueError as error:  # no template at all
        raise ApiError(
            400, f"This model has no chat template: {error}", code="no_chat_template"
        ) from error
    except (
        _template_errors()
    ) as error:  # a template may refuse, say, a system message in the middle
        message = f"The model's chat template refuses these messages: {error}"
        raise ApiError(400, message, param="messages", code="invalid_messages") from error
    ids = tokenizer.encode(text, add_special_tokens=False)
    return Prompt(tuple(ids), text.rstrip().endswith(THINK))


def _template_errors() -> tuple[type[Exception], ...]:
    from jinja2 import TemplateError

    return (TemplateError,)


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


@dataclass(frozen=True)
class Part:
    """A piece of an answer: `kind` is "reasoning", "content" or "tool_call" (then `name` is set)."""

    kind: str
    text: str  # of a tool call: its arguments, as JSON
    name: str = ""


class AnswerParser:
    """Splits an answer into parts while it streams in; nothing is emitted that may turn out markup.

    White space around markup is dropped. A tool call that is not JSON with a name stays content,
    so that no output is lost; one that was cut off is a call with what there is of its arguments,
    once it has a name. With `tools` False call markup is ordinary text.
    """

    def __init__(self, *, in_reasoning: bool = False, tools: bool = False):
        self._mode = "reasoning" if in_reasoning else "content"
        self._tools = tools
        self._held = ""  # not yet decided
        self._gap = ""  # white space that counts only if text follows
        self._begun = {"reasoning": False, "content": False}

    def feed(self, text: str) -> list[Part]:
        self._held += text
        parts: list[Part] = []
        while True:
            at, tag = self._next_tag()
            if tag is None:
                break
            before, self._held = self._held[:at], self._held[at + len(tag) :]
            parts += self._close(tag, before)
        if self._mode != "tool_call":
            keep = _undecided(self._held, self._tags())
            sure, self._held = (
                self._held[: len(self._held) - keep],
                self._held[len(self._held) - keep :],
            )
            parts += self._text(sure)
        return parts

    def finish(self) -> list[Part]:
        """What was held back, now that nothing follows."""
        if self._mode == "tool_call":
            self._mode, held, self._held = "content", self._held, ""
            if (cut := _cut_call(held)) is not None:
                return [cut]
            if not _is_nameless_call(held):
                self._held = CALL + held
        parts = self._text(self._held)
        self._held = ""
        if self._gap and self._begun["content"] and self._mode == "content":
            parts.append(Part("content", self._gap))
        return parts

    def _tags(self) -> tuple[str, ...]:
        if self._mode == "reasoning":
            return (END_THINK,)
        if self._mode == "tool_call":
            return (END_CALL,)
        thinking = () if self._begun["content"] else (THINK,)
        return (*thinking, CALL) if self._tools else thinking

    def _next_tag(self) -> tuple[int, str | None]:
        found = [(self._held.find(tag), tag) for tag in self._tags() if tag in self._held]
        at, tag = min(found, default=(0, None))
        if tag == THINK and self._held[:at].strip():  # reasoning comes first or not at all
            found = [(i, t) for i, t in found if t != THINK]
            at, tag = min(found, default=(0, None))
        return at, tag

    def _close(self, tag: str, before: str) -> list[Part]:
        if tag == END_CALL:
            self._mode = "content"
            call = _tool_call(before)
            return [call] if call else self._text(CALL + before + END_CALL)
        parts = self._text(before)
        self._gap = ""
        self._mode = {THINK: "reasoning", END_THINK: "content", CALL: "tool_call"}[tag]
        return parts

    def _text(self, text: str) -> list[Part]:
        text = self._gap + text
        if not self._begun[self._mode]:
            text = text.lstrip()
        solid = text.rstrip()
        self._gap = text[len(solid) :]
        if not solid:
            return []
        self._begun[self._mode] = True
        return [Part(self._mode, solid)]


def _undecided(text: str, tags: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a tag."""
    longest = max((len(tag) for tag in tags), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-size:]) for tag in tags):
            return size
    return 0


_NAMED = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)+")\s*(,\s*"arguments"\s*:\s*)?')


def _cut_call(text: str) -> Part | None:
    """A call that was cut off, with what there is of its arguments; None where it has no name."""
    if (whole := _tool_call(text)) is not None:
        return whole
    found = _NAMED.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    if found[2] is None and not ',"arguments":'.startswith("".join(rest.split())):
        return None
    try:
        name = json.loads(found[1])
    except ValueError:
        return None
    return Part("tool_call", rest if found[2] else "", name)


def _is_nameless_call(text: str) -> bool:
    """Whether it was cut off before its name ended."""
    said, opening = "".join(text.split()), '{"name":"'
    return opening.startswith(said) or (
        said.startswith(opening) and '"' not in said[len(opening) :]
    )


def _tool_call(text: str) -> Part | None:
    try:
        call = json.loads(text)
    except ValueError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Part("tool_call", arguments, call["name"])
