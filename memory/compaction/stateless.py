"""Stateless compaction of a conversation that is not stored here: messages in, fewer messages out.

The same policies and the same floor as for sessions (system messages, open tool calls, and the
newest user message); what leaves is gone for the caller, who alone has it. Left out: summaries of
what leaves, since they could not be expanded.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from burnish.memory.compaction.policy_runner import PolicyRunner
from burnish.memory.errors import BadStep
from burnish.memory.sessions.plan import SHOWN_ACTIONS
from burnish.memory.sessions.steps import Step, StepDraft, parse
from burnish.memory.sessions.units import Unit
from burnish.memory.views.default_view import default_query
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import View

MAX_MESSAGES = 10_000
# A shortened step says how to expand it, which works only for steps that are stored.
_EXPAND = re.compile(r"; expand step \d+ to read (?:it|them)")


class CompactedMessages(TypedDict):
    """Messages in OpenAI's shape, and tokens of the whole conversation before and after."""

    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int


async def compact_messages(
    runner: PolicyRunner,
    price: Price,
    events: Sequence[Mapping[str, Any]],
    budget: int,
    policy: str,
    query: str | None = None,
) -> CompactedMessages:
    """Raises BadStep, TooLarge, BudgetTooSmall, UnknownPolicy."""
    if not 0 < len(events) <= MAX_MESSAGES:
        raise BadStep(f"send 1 to {MAX_MESSAGES} messages")
    drafts = [parse(event) for event in events]
    units, waiting = await asyncio.to_thread(_units, drafts, price)
    before = sum(unit.tokens for unit in units)
    view = View(budget, price)
    newest = [unit for unit in units if unit.steps[0].role == "user"][-1:]
    floor = [u for u in units if u.steps[0].pin_reason or u.first in waiting or u in newest]
    view.add_floor(floor)
    rest = [unit for unit in units if unit not in view]
    query = query or default_query(units[::-1])
    outcome = await runner.decide(policy, rest, query, view.left, {})
    for candidate, decision in outcome.pairs:
        if decision.action in SHOWN_ACTIONS:
            view.add(form(candidate.unit, decision.action, price), view.left)
    messages = []
    for shown in view.messages():
        message: dict[str, Any] = {k: v for k, v in shown.items() if k not in ("cursors", "form")}
        if "form" in shown:
            message["content"] = _EXPAND.sub("", message["content"])
        messages.append(message)
    return CompactedMessages(messages=messages, tokens_before=before, tokens_after=view.tokens)


def _units(drafts: Sequence[StepDraft], price: Price) -> tuple[list[Unit], set[int]]:
    """In order, each call with its results; and the places of calls without all of theirs."""
    groups: list[list[Step]] = []
    open_calls: dict[str, list[Step]] = {}
    for seq, draft in enumerate(drafts, start=1):
        step = Step(**vars(draft), seq=seq, tokens=price(draft.text), at=0.0)
        if step.tool_call_id is not None:
            if step.tool_call_id not in open_calls:
                raise BadStep(f"no open tool call {step.tool_call_id!r} before its result")
            open_calls.pop(step.tool_call_id).append(step)
            continue
        groups.append([step])
        open_calls |= dict.fromkeys(step.call_ids, groups[-1])
    waiting = {group[0].seq for group in open_calls.values()}
    return [Unit(tuple(group)) for group in groups], waiting
