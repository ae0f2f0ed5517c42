"""The catalogue of all families: draws tasks, demonstrates answers, checks answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from burnish.learner.tasks.ember import context, lists, numbers, talk, tools
from burnish.learner.tasks.ember.core import Exercise, Family, Split, UnknownFamily, normalise
from burnish.learner.tasks.ember.styles import conclusion, unframed, word

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for module in (numbers, lists, context, tools, talk)
    for family in module.FAMILIES
}
_LEVELS = (1, 2, 3)
LEVEL_SHARES = (0.65, 0.25, 0.1)


def sample(
    rng: Random,
    family: str | None = None,
    split: Split = "train",
    level: int | None = None,
) -> Exercise:
    """One task of a split. Unless given, the family is drawn uniformly, the level mostly low.

    Raises UnknownFamily.
    """
    name = family or rng.choice(tuple(FAMILIES))
    if name not in FAMILIES:
        raise UnknownFamily(f"unknown task family {name!r}: choose of {', '.join(FAMILIES)}")
    while True:
        chosen = level or rng.choices(_LEVELS, LEVEL_SHARES)[0]
        task = FAMILIES[name].make(rng, chosen)
        if task.split == split:
            return task


def demonstrate(task: Exercise, style: str, rng: Random) -> dict[str, Any]:
    """A right assistant message in `style`: content, and `tool_calls` where the answer is one.

    Raises UnknownStyle.
    """
    family = FAMILIES[task.family]
    if not family.calls_tool:
        return {"role": "assistant", "content": word(task, style, family, rng)}
    call = json.loads(task.answer)
    spoken = "" if style == "terse" else word(replace(task, answer="."), style, family, rng)
    function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    return {
        "role": "assistant",
        "content": spoken,
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }


def is_correct(
    task: Exercise, text: str, tool_calls: Sequence[Mapping[str, Any]] | None = None
) -> bool:
    """Whether an answer is right, whatever its style.

    The conclusion must be the answer and nothing else; several candidates count as wrong. Where the
    answer is a tool call, exactly the right call must be made, in `tool_calls` or in the raw text.
    """
    if FAMILIES[task.family].calls_tool:
        calls = None if tool_calls is None else [dict(call) for call in tool_calls]
        return tools.is_right_call(task, text, calls)
    if tool_calls or "<tool_call>" in text:
        return False
    concluded = conclusion(text)
    if not concluded:
        return False
    right = {normalise(answer) for answer in (task.answer, *task.also)}
    return concluded in right or unframed(concluded) in right
