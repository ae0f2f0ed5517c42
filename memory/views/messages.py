"""A view's messages, in the order of the log, as OpenAI's and Anthropic's checks want them.

Every tool call is followed by its results; one that has none is answered by a stand-in. A call id
that an agent used twice is changed in the older call, since ids must be unique within a prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NotRequired, TypedDict

from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import NO_RESULT
from burnish.memory.views.quote import quote_block

SYSTEM = ("system", "developer")
STAND_IN, NOTICE = "stand-in", "notice"


class ViewMessage(TypedDict):
    """A chat message and the cursors of the steps it shows.

    `form` is "shorten" or "clear" where a step is not shown whole, "stand-in" for the result of a
    call that never got one, "notice" where earlier steps are left out; `node` names a summary,
    whose steps (they may be thousands) `expand` gives.
    """

    role: str
    content: str
    cursors: list[str]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict]]
    tool_call_id: NotRequired[str]
    form: NotRequired[str]
    node: NotRequired[str]


def written_out(
    units: Sequence[Unit],
    summaries: Sequence[tuple[int, str, str]],
    recalled: Sequence[Unit],
    opening: str = "",
) -> list[ViewMessage]:
    """`summaries` are (place, node, content); `recalled` stand in one block before newer steps."""
    parts = [(unit.first, _messages(unit)) for unit in _unique_calls(units)]
    parts += [
        (place, [ViewMessage(role="user", content=content, cursors=[], node=node)])
        for place, node, content in summaries
    ]
    if recalled:
        cursors = [step.cursor for unit in recalled for step in unit.steps]
        block = ViewMessage(role="user", content=block_of(recalled), cursors=cursors)
        parts.append((recalled[-1].first, [block]))
    parts.sort(key=lambda part: part[0])
    messages = [message for _, written in parts for message in written]
    if opening:
        places = (i for i, m in enumerate(messages) if m["role"] not in SYSTEM)
        place = next(places, len(messages))
        said = ViewMessage(role="user", content=opening, cursors=[], form=NOTICE)
        messages.insert(place, said)
    return messages


def notice(missing: int) -> str:
    return f"[{missing} steps left out]"


def block_of(units: Sequence[Unit]) -> str:
    """The block that quotes these units, in the order of the log."""
    ordered = sorted(units, key=lambda unit: unit.first)
    return quote_block([step for unit in ordered for step in unit.steps])


def _messages(unit: Unit) -> list[ViewMessage]:
    shown = [_message(step, unit.form) for step in unit.steps]
    return shown + [
        ViewMessage(role="tool", content=NO_RESULT, cursors=[], tool_call_id=call, form=STAND_IN)
        for call in unit.unanswered
    ]


def _message(step: Step, form: str) -> ViewMessage:
    message = ViewMessage(**step.message(), cursors=[step.cursor])  # type: ignore[typeddict-item]
    if form:
        message["form"] = form
    return message


def _unique_calls(units: Sequence[Unit]) -> list[Unit]:
    """The units, with call ids that a newer unit uses too changed in the older one."""
    if not any(unit.steps[0].tool_calls for unit in units):
        return list(units)
    taken: set[str] = set()
    unique = []
    for unit in sorted(units, key=lambda unit: -unit.first):
        again = taken.intersection(unit.steps[0].call_ids)
        taken.update(unit.steps[0].call_ids)
        unique.append(_renamed(unit, {call: f"{call}-{unit.first}" for call in again}))
    return unique


def _renamed(unit: Unit, names: Mapping[str, str]) -> Unit:
    def renamed(step: Step) -> Step:
        calls = tuple({**call, "id": names.get(call["id"], call["id"])} for call in step.tool_calls)
        answers = step.tool_call_id and names.get(step.tool_call_id, step.tool_call_id)
        return replace(step, tool_calls=calls, tool_call_id=answers)

    return Unit(tuple(map(renamed, unit.steps)), unit.form) if names else unit
