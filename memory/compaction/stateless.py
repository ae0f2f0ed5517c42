"""Stateless compaction of a conversation that is not stored here: messages in, fewer messages out.

The same policies and the same floor as for sessions (system messages, rules, the newest exchange); what leaves is gone for the caller, who alone has it. Left out: summaries of
what leaves, since they could not be expanded.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from burnish.memory.compaction.policy_runner import PolicyRunner
from burnish.memory.errors import BadStep
from burnish.memory.sessions.steps import RULE, Step, StepDraft, parse
from burnish.memory.sessions.units import Unit
from burnish.memory.views.always_shown import exchange_of, show_always
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
    units = await asyncio.to_thread(_units, drafts, price)
    before = sum(unit.tokens for unit in units)
    view = View(budget, price)
    reasons = [(unit, unit.steps[0].pin_reason) for unit in units]
    floor = [unit for unit, reason in reasons if reason not in ("", RULE)]
    rules = [unit for unit, reason in reasons if reason == RULE]
    newest_first = sorted(units, key=lambda unit: -unit.last)
    show_always(view, floor, rules, exchange_of(newest_first, ()))
    rest = [unit for unit in units if not view.shows_whole(unit)]
    query = query or default_query(units[::-1])
    outcome = await runner.decide(policy, await runner.priced(rest), query, view.left, {})
    for candidate, action in outcome.shown_actions:
        view.add(form(candidate.unit, action, price), view.left)
    view.open_with_user(len(drafts))
    messages = []
    for shown in view.messages():
        message: dict[str, Any] = {
            k: v for k, v in shown.items() if k not in ("cursors", "form", "node")
        }
        if "form" in shown:
            message["content"] = _EXPAND.sub("", message["content"])
        messages.append(message)
    return CompactedMessages(messages=messages, tokens_before=before, tokens_after=view.tokens)


def _units(drafts: Sequence[StepDraft], price: Price) -> list[Unit]:
    """In order, each call with its results."""
    groups: list[list[Step]] = []
    open_calls: dict[str, list[Step]] = {}
    for seq, draft in enumerate(drafts, start=1):
        given = {**vars(draft), "at": draft.at or 0.0}
        step = Step(**given, seq=seq, tokens=price(draft.text))
        if step.tool_call_id is not None:
            if step.tool_call_id not in open_calls:
                raise BadStep(f"no open tool call {step.tool_call_id!r} before its result")
            open_calls.pop(step.tool_call_id).append(step)
            continue
        groups.append([step])
        open_calls |= dict.fromkeys(step.call_ids, groups[-1])
    return [Unit(tuple(group)) for group in groups]
