"""An agent of a thousand steps whose tool calls are interrupted, retried and answered late: is every
view what OpenAI's and Anthropic's chat APIs take?

OpenAI: a message with `tool_calls` is followed by a tool message for each id, and no tool message
stands elsewhere. Anthropic: the same of tool_use and tool_result, ids unique in the whole request, no
empty text. Call ids come again, as some models count them anew in every turn.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from burnish.memory import MemoryStore

BUDGETS = (400, 800, 2000)


def refusals(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What either API would refuse these messages for."""
    found: list[str] = []
    waiting: set[str] = set()
    used: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                found.append("a result without its call, or a second one")
            waiting.discard(message["tool_call_id"])
            continue
        if waiting:
            found.append("a call without its result")
        ids = [call["id"] for call in message.get("tool_calls", ())]
        if used.intersection(ids) or len(ids) != len(set(ids)):
            found.append("a call's id used twice")
        if not ids and not message["content"].strip():
            found.append("an empty message")
        used.update(ids)
        waiting = set(ids)
    return (
        found + (["a call without its result"] if waiting else []) + ["no message"] * (not messages)
    )


async def interrupted_agent(
    store: MemoryStore, policies: Sequence[str | None], steps: int = 1000, seed: int = 7
) -> dict[str, int]:
    """Views asked for by each policy (None: the default view), and how many would be refused."""
    views = refused = 0
    for policy in policies:
        rng, session = Random(seed), f"agent-{uuid.uuid4().hex}"
        waiting: list[str] = []
        number = appended = 0
        while appended < steps:
            events = _events(rng, number, waiting)
            if not events:
                continue
            number, appended = number + 1, appended + len(events)
            await store.append("bench", session, events)
            if number % 10 == 0:
                view = await store.context("bench", session, rng.choice(BUDGETS), policy=policy)
                views += 1
                refused += bool(refusals(view["messages"]))
            if number % 100 == 0:
                await store.compaction.compact("bench", session, policy or "bm25", 400)
    return {"steps": steps, "views": views, "refused": refused}


def _events(rng: Random, number: int, waiting: list[str]) -> list[dict[str, Any]]:
    match rng.choice(("say", "call", "answer", "late", "interrupt")):
        case "say":
            return [_said(f"step {number} " + "word " * rng.choice((3, 30, 300)))]
        case "call":
            ids = list(dict.fromkeys(f"c{rng.randrange(20)}" for _ in range(rng.choice((1, 1, 2)))))
            waiting[:] = [call for call in waiting if call not in ids] + ids
            return [_called(*ids)]
        case "interrupt":
            again = f"x{number}r"
            return [_called(f"x{number}"), _said("stop that"), _called(again), _result(again)]
        case _ if waiting:
            call = waiting.pop(rng.randrange(len(waiting)))
            return [_result(call, "done " * rng.choice((1, 100)))]
        case _:
            return []


def _said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _called(*ids: str) -> dict[str, Any]:
    function = {"name": "shell", "arguments": "{}"}
    calls = [{"id": call, "type": "function", "function": function} for call in ids]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result(call: str, text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call}
