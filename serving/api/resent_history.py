"""Resent history: what of a request's messages its session holds already, and what they replace there.

Clients of a chat API send the whole conversation again with each turn, and let people ask again or edit
a turn or an answer in it. A request is compared with the session's log: it goes on where the two part,
and what chats put behind that place was replaced. A client that sends only part of a conversation, or
nothing of it, replaces nothing; since a first turn alone looks the same, one that means it as the whole
conversation says so (`session_history: "whole"`). Left out: taking back and appending (chat_memory.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from burnish.memory import MemoryStore
from burnish.serving.api.chat_template import text_of

Message = dict[str, Any]
SYSTEM = ("system", "developer")
SAID, ANSWER = "said-", "chatcmpl-"  # how the ids of turns and of answers begin
PAGE = 500


@dataclass(frozen=True)
class Place:
    """Where a request goes on in a session."""

    new: int  # the first of its messages, system ones left out, that the session lacks
    replaced: tuple[str, ...] = ()  # cursors of what the session holds from there on


async def find_place(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message], *, whole: bool
) -> Place:
    """Where `messages` go on in the session; `whole` says that nothing came before them.

    Costs one look at the session's newest steps as long as the client changed nothing. Raises
    StoreError, RedisError.
    """
    said = without_system(messages)
    past = after_last_answer(said)
    if not (past or whole) or await _unchanged(store, tenant, session, said[:past]):
        return Place(past)
    log = await _log(store, tenant, session)
    if not log:
        return Place(0 if whole else past)
    same = [turn_of(a) == turn_of(b) for a, b in zip(said, log, strict=False)]
    parted = same.index(False) if False in same else len(same)
    if parted < past and not whole and not _edited(said[:past], log, same):
        return Place(past)
    rest = log[parted:]
    chats = [step for step in rest if step["id"].startswith((SAID, ANSWER))]
    if not rest or rest[0]["role"] == "tool" or (len(chats) < len(rest) and not whole):
        return Place(max(parted, past) if rest else parted)
    return Place(parted, tuple(step["cursor"] for step in chats))


def without_system(messages: Sequence[Message]) -> list[Message]:
    """System messages come with each request and are not remembered."""
    return [message for message in messages if message["role"] not in SYSTEM]


def after_last_answer(messages: Sequence[Message]) -> int:
    """The index after the last answer; 0 where there is none."""
    return max((i + 1 for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)


def turn_of(message: Message) -> str:
    """What makes a message sent and a step stored the same: not the space around a text, nor how the
    arguments of a call are written."""
    calls = [_call(call.get("function") or {}) for call in message.get("tool_calls") or ()]
    text = text_of(message.get("content")).strip()
    return json.dumps([message["role"], text, calls], sort_keys=True)


def prefix_ids(messages: Sequence[Message]) -> list[str]:
    """Per message the id of the conversation up to it: the hash of its JSON array, system messages
    left out. Hashed once along the way, as conversations are long."""
    ids: list[str] = []
    hashed = hashlib.sha256(b"[")
    between = b""
    for message in messages:
        if message["role"] not in SYSTEM:
            hashed.update(between + json.dumps(message, sort_keys=True).encode())
            between = b", "
        whole = hashed.copy()
        whole.update(b"]")
        ids.append(SAID + whole.hexdigest()[:24])
    return ids


async def _unchanged(
    store: MemoryStore, tenant: str, session: str, history: Sequence[Message]
) -> bool:
    """Whether the session holds this history and no more, as its two newest steps tell: the id of a
    turn is that of all that came before it."""
    if len(history) < 2 or await store.steps(tenant, session) != len(history):
        return False
    asked, answered = await store.newest(tenant, session, 2)
    return asked["id"].startswith(prefix_ids(history)[-2]) and turn_of(answered) == turn_of(
        history[-1]
    )


async def _log(store: MemoryStore, tenant: str, session: str) -> list[Message]:
    log: list[Message] = []
    if not await store.steps(tenant, session):
        return log
    while page := await store.read(tenant, session, log[-1]["cursor"] if log else 0, PAGE):
        log += page
    return log


def _edited(history: Sequence[Message], log: Sequence[Message], same: Sequence[bool]) -> bool:
    """Whether the history is the log's with texts in it edited: some of it stands where it stood, and
    what does not is of the same role, and with the message after it is nowhere else in the log, as a
    part of a conversation would be."""
    if not any(same):
        return False
    turns, steps = list(map(turn_of, history)), list(map(turn_of, log))
    runs = {*pairwise(steps), *((step,) for step in steps)}
    places = (place for place, equal in enumerate(same[: len(history)]) if not equal)
    return all(
        history[place]["role"] == log[place]["role"] and tuple(turns[place : place + 2]) not in runs
        for place in places
    )


def _call(function: Message) -> list[Any]:
    arguments = function.get("arguments")
    try:
        return [function.get("name"), json.loads(arguments or "{}")]
    except (TypeError, ValueError):
        return [function.get("name"), arguments]
