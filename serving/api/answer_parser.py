"""The model's text back to reasoning, content and tool calls, while it streams in.

Answers are read in the markup most open models share: `<think>...</think>` and
`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. A call is told as soon as its arguments
begin, and they follow in pieces. Left out: other markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from burnish.serving.api.chat_template import CALL, END_CALL, END_THINK, THINK


@dataclass(frozen=True)
class Part:
    """A piece of an answer: `kind` is "reasoning", "content" or "tool_call".

    The first piece of a call has its `name`, later ones continue its arguments.
    """

    kind: str
    text: str  # of a tool call: its arguments, as JSON
    name: str = ""

    def continues(self, before: Part | None) -> bool:
        """Whether it is the same text or call as `before`, the piece just before it."""
        return before is not None and before.kind == self.kind and not self.name


def blocks(parts: Iterable[Part]) -> list[Part]:
    """Pieces put together: each call, and each text between calls, as one part."""
    texts: list[list[str]] = []
    firsts: list[Part] = []
    before = None
    for part in parts:
        if part.continues(before):
            texts[-1].append(part.text)
        else:
            texts.append([part.text])
            firsts.append(part)
        before = part
    return [
        Part(first.kind, "".join(text), first.name)
        for first, text in zip(firsts, texts, strict=True)
    ]


class AnswerParser:
    """Splits an answer into parts; nothing is emitted that may turn out markup.

    White space around markup is dropped. What stands between call tags and is no JSON with a name
    stays content, so that no output is lost; a call that was cut off keeps what there is of its
    arguments. With `tools` False call markup is ordinary text.
    """

    def __init__(self, *, in_reasoning: bool = False, tools: bool = False):
        self._mode = "reasoning" if in_reasoning else "content"
        self._tools = tools
        self._held = ""  # not yet decided
        self._gap = ""  # white space that counts only if text follows
        self._begun = {"reasoning": False, "content": False}
        self._arguments: _Arguments | None = None  # of the call that is being told

    def feed(self, text: str) -> list[Part]:
        self._held += text
        if self._mode != "tool_call" and "<" not in self._held:  # no markup begins here
            sure, self._held = self._held, ""
            return self._text(sure)
        parts: list[Part] = []
        while True:
            at, tag = self._next_tag()
            if tag is None:
                break
            before, self._held = self._held[:at], self._held[at + len(tag) :]
            parts += self._close(tag, before)
        keep = len(self._held) - _undecided(self._held, self._tags())
        sure, self._held = self._held[:keep], self._held[keep:]
        if self._mode != "tool_call":
            return parts + self._text(sure)
        parts += self._call(sure)
        if self._arguments is None:
            self._held = sure + self._held
        return parts

    def finish(self) -> list[Part]:
        """What was held back, now that nothing follows."""
        if self._mode == "tool_call":
            self._mode, held, self._held = "content", self._held, ""
            if self._arguments is not None:
                return self._arguments.feed(held)
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
            parts, begun = self._call(before), self._arguments is not None
            self._mode, self._arguments = "content", None
            if begun:
                return parts
            whole = _tool_call(before)
            return [whole] if whole else self._text(CALL + before + END_CALL)
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

    def _call(self, text: str) -> list[Part]:
        """What a call says: `text` is all of it until its arguments begin, then what is new."""
        if self._arguments is not None:
            return self._arguments.feed(text)
        found = _NAMED.match(text)
        if found is None or not found[2] or not text.startswith("{", found.end()):
            return []
        if (name := _string(found[1])) is None:
            return []
        self._arguments = _Arguments()
        return self._arguments.feed(text[found.end() :], name)


class _Arguments:
    """The arguments of a call, an object, told in pieces up to the brace that closes it."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = self._closed = False

    def feed(self, text: str, name: str = "") -> list[Part]:
        told = text[: self._end(text)]
        return [Part("tool_call", told, name)] if told else []

    def _end(self, text: str) -> int:
        """Where in `text` the object ends; its length if it goes on."""
        for place, char in enumerate(text):
            if self._closed:
                return place
            if self._in_string:
                self._in_string = self._escaped or char != '"'
                self._escaped = char == "\\" and not self._escaped
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                self._closed = self._depth <= 0
        return len(text)


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
    name = _string(found[1])
    return None if name is None else Part("tool_call", rest if found[2] else "", name)


def _string(literal: str) -> str | None:
    try:
        return json.loads(literal)
    except ValueError:
        return None


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
