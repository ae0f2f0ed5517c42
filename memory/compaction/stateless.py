"""Compacting a conversation that is not stored here: messages in, fewer messages out.

The same policies and the same floor as for sessions (system messages, open tool calls, and the
newest user message); what leaves is gone for the caller, who alone has it. Left out: summaries of
what leaves, since nobody could expand them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from burnish.memory.compaction.policy_runner import PolicyRunner
from burnish.memory.errors import BadStep
from burnish.memory.sessions.plan import SHOWN
from burnish.memory.sessions.steps import Draft, Step, parse
from burnish.memory.sessions.units import Unit
from burnish.memory.views.context import newest_question
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import View

MOST = 10_000
# A shortened step says how to expand it, which works only for steps that are stored.
_EXPAND = re.compile(r"; expand step \d+ to read (?:it|them)")


class Compacted(TypedDict):
    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int


async def compact_messages(
    decider: PolicyRunner,
    price: Price,
    events: Sequence[Mapping[str, Any]],
    budget: int,
    policy: str,
    query: str | None = None,
) -> Compacted:
    """Raises BadStep, TooLarge, BudgetTooSmall, UnknownPolicy."""
    if not 0 < len(events) <= MOST:
        raise BadStep(f"send 1 to {MOST} messages")
    units, waiting = _units([parse(event) for event in events], price)
    before = sum(unit.tokens for unit in units)
    view = View(budget, price)
    said = [unit for unit in units if unit.steps[0].role == "user"]
    floor = [u for u in units if u.steps[0].pin_reason or u.first in waiting or u in said[-1:]]
    view.add_floor(floor)
    rest = [unit for unit in units if unit not in view]
    about = query or newest_question(units[::-1])
    decided = await decider.decide(policy, rest, about, view.left, {})
    for one, decision in decided.pairs:
        if decision.verdict in SHOWN:
            view.add(form(one.unit, decision.verdict, price), view.left)
    messages = []
    for shown in view.messages():
        message: dict[str, Any] = {k: v for k, v in shown.items() if k not in ("cursors", "form")}
        if "form" in shown:
            message["content"] = _EXPAND.sub("", message["content"])
        messages.append(message)
    return Compacted(messages=messages, tokens_before=before, tokens_after=view.tokens)


def _units(drafts: Sequence[Draft], price: Price) -> tuple[list[Unit], set[int]]:
    """In order, each call with its results; and the places of calls without all of theirs."""
    groups: list[list[Step]] = []
    asked: dict[str, list[Step]] = {}
    for seq, draft in enumerate(drafts, start=1):
        step = Step(**vars(draft), seq=seq, tokens=price(draft.text), at=0.0)
        if step.tool_call_id is not None:
            if step.tool_call_id not in asked:
                raise BadStep(f"no open tool call {step.tool_call_id!r} before its result")
            asked.pop(step.tool_call_id).append(step)
            continue
        groups.append([step])
        asked |= dict.fromkeys(step.call_ids, groups[-1])
    waiting = {group[0].seq for group in asked.values()}
    return [Unit(tuple(group)) for group in groups], waiting
