"""Shortening a long step: its head and its tail, and a note of what is missing.

Deterministic and without a model. `shorten` keeps the first and last lines, whatever there is room
for; `cut` keeps as many characters as it is told. Tool calls stay valid: `cut` takes of a call's
arguments only what long strings in them hold. The note says how to read what is left out (`expand`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from burnish.memory.sessions.rules import rules
from burnish.memory.sessions.steps import Step

HEAD_LINES, HEAD_CHARACTERS = 4, 320
TAIL_LINES, TAIL_CHARACTERS = 2, 160
HEAD_SHARE = 2 / 3  # of the characters that `cut` keeps


def shorten(step: Step) -> Step:
    """The step with its content made short, or as it is where that would save nothing."""
    lines = step.content.splitlines()
    head = "\n".join(lines[:HEAD_LINES])[:HEAD_CHARACTERS]
    rest = step.content[len(head) :] if len(lines) <= HEAD_LINES else _tail(lines)
    tail = rest[-TAIL_CHARACTERS:]
    missing = len(step.content) - len(head) - len(tail)
    return _if_shorter(step, f"{head}\n{_note(step, missing)}\n{tail}")


def cut(step: Step, characters: int) -> Step:
    """The step with its content, and each argument of its calls, cut to about so many characters."""
    calls = tuple(_cut_call(call, characters) for call in step.tool_calls)
    step = step if calls == step.tool_calls else replace(step, tool_calls=calls)
    if len(step.content) <= characters:
        return step
    head = step.content[: int(characters * HEAD_SHARE)]
    tail = step.content[len(step.content) - (characters - len(head)) :]
    parts = (head, _note(step, len(step.content) - characters), tail)
    return _if_shorter(step, "\n".join(part for part in parts if part))


def only_rules(step: Step) -> Step:
    """The rules that the step states, or the step as it is where that would save nothing."""
    found = "\n".join(rules(step.content))
    missing = len(step.content) - len(found)
    return _if_shorter(step, f"{found}\n{_note(step, missing)}") if found else step


def clear(step: Step) -> Step:
    """A tool result as a placeholder; any other step as it is."""
    if step.role != "tool":
        return step
    return _if_shorter(step, f"[result cleared; expand step {step.cursor} to read it]")


def _note(step: Step, missing: int) -> str:
    return f"[{missing} characters cut; expand step {step.cursor}]"


def _tail(lines: Sequence[str]) -> str:
    return "\n".join(lines[HEAD_LINES:][-TAIL_LINES:])


def _if_shorter(step: Step, content: str) -> Step:
    return replace(step, content=content) if len(content) < len(step.content) else step


def _cut_call(call: Mapping[str, Any], characters: int) -> Mapping[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    if not isinstance(arguments, str) or len(arguments) <= characters:
        return call
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return call
    cut_down = json.dumps(_cut_strings(parsed, characters), ensure_ascii=False)
    return {**call, "function": {**function, "arguments": cut_down}}


def _cut_strings(value: Any, characters: int) -> Any:
    match value:
        case str() if len(value) > characters + 40:
            return f"{value[:characters]} [{len(value) - characters} characters left out]"
        case list():
            return [_cut_strings(item, characters) for item in value]
        case dict():
            return {key: _cut_strings(item, characters) for key, item in value.items()}
        case _:
            return value
