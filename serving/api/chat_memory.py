"""Chat with a session: what the session adds to a prompt, and what the exchange adds to the session.

Some clients send the whole conversation each time, others only what is new. Both work: what
memory holds and the client also sent is not repeated, and only what follows the last answer in the
request is remembered, then the new answer. A turn that was edited, or asked again, replaces what
followed there before. A conversation longer than the model's window is stored in the session, whose
view then replaces it. System messages come with each request and are not remembered. Left out:
quoting, budgets and compaction, which are memory's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from burnish.feedback.events import MemoryUsed
from burnish.memory import (
    MAX_BATCH,
    STAND_IN,
    BudgetTooSmall,
    ContextView,
    MemoryStore,
    StoreError,
)
from burnish.serving.api.chat_template import text_of
from burnish.serving.api.errors import ApiError
from redis.exceptions import RedisError

Message = dict[str, Any]
_SYSTEM = ("system", "developer")
SAID, ANSWER = "said-", "chatcmpl-"  # how the ids of turns and of answers begin
PAGE = 500
_PROVENANCE = ("cursors", "form", "node")


@dataclass(frozen=True)
class Recalled:
    """The messages to render, the view of the session they hold, and what it may cost."""

    messages: tuple[Message, ...]
    used: MemoryUsed | None = None
    budget: int = 0


async def recall(
    store: MemoryStore,
    tenant: str,
    session: str,
    messages: Sequence[Message],
    *,
    budget: int,
    max_budget: int,
) -> Recalled:
    """`messages` with what the session adds. Raises ApiError.

    That is `budget` tokens, or up to `max_budget` where the session's pinned steps need more.
    """
    query = next(
        (text_of(m.get("content")) for m in reversed(messages) if m["role"] == "user"), None
    )
    with as_api_errors():
        view = await _view(store, tenant, session, query or None, budget, max_budget)
    sent = Counter(_turn(message) for message in messages)
    added: list[Message] = []
    cursors: list[str] = []
    answered = {m.get("tool_call_id") for m in messages if m["role"] == "tool"}
    for shown in view["messages"]:
        if shown.get("form") == STAND_IN and shown.get("tool_call_id") in answered:
            continue  # the result that it stands for is in this very request
        message: Message = {k: v for k, v in shown.items() if k not in _PROVENANCE}
        if sent[_turn(message)] > 0:
            sent[_turn(message)] -= 1
        else:
            added.append(message)
            cursors += shown["cursors"]
    system = [m for m in messages if m["role"] in _SYSTEM]
    rest = [m for m in messages if m["role"] not in _SYSTEM]
    used = MemoryUsed(session=session, version=view["version"], plan=view["plan"], cursors=cursors)
    return Recalled((*system, *added, *rest), used, budget)


def newest(messages: Sequence[Message]) -> list[Message]:
    """What follows the last answer, and the system messages."""
    start = _after_last_answer(messages)
    return [m for place, m in enumerate(messages) if place >= start or m["role"] in _SYSTEM]


async def adopt(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message], user: str | None
) -> None:
    """Put all but the newest messages into a session that holds nothing yet. One that does has
    them from earlier turns. Raises ApiError."""
    said = messages[: _after_last_answer(messages)]
    ids = _prefix_ids(said)
    events = [
        event_of(message) | {"id": ids[place]}
        for place, message in enumerate(said)
        if message["role"] not in _SYSTEM
    ]
    with as_api_errors():
        if not await store.steps(tenant, session):
            for start in range(0, len(events), MAX_BATCH):
                batch = events[start : start + MAX_BATCH]
                await store.append(tenant, session, batch, user=user)


async def sends_all(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message]
) -> bool:
    """Whether the client has sent as much as the session holds: then it has nothing to add."""
    sent = sum(m["role"] not in _SYSTEM for m in messages[: _after_last_answer(messages)])
    if not sent:
        return False
    with as_api_errors():
        return await store.steps(tenant, session) == sent


async def _view(
    store: MemoryStore, tenant: str, session: str, query: str | None, budget: int, max_budget: int
) -> ContextView:
    try:
        return await store.context(tenant, session, budget, query)
    except BudgetTooSmall as error:
        if error.floor > max_budget:
            raise
        return await store.context(tenant, session, error.floor, query)


async def remember(
    store: MemoryStore,
    tenant: str,
    session: str,
    messages: Sequence[Message],
    answer: Message,
    answer_id: str,
    user: str | None,
) -> None:
    """Append what was new in `messages`, and the answer. Raises StoreError, RedisError."""
    start = _after_last_answer(messages)
    # Where the whole conversation was sent, a repeated request is recognisable.
    ids = _prefix_ids(messages) if start > 0 else []
    known, _ = await _continued(store, tenant, session, messages)
    again = await _turns_taken_back(store, tenant, session) if ids else 0
    events: list[Message] = []
    for place in range(start, len(messages)):
        if messages[place]["role"] not in _SYSTEM:
            event = event_of(messages[place])
            events.append(event | {"id": f"{ids[place]}{again or ''}"} if ids else event)
    events = events[known:]
    events.append({**event_of(answer), "id": answer_id})
    await store.append(tenant, session, events, user=user)


async def take_back(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message]
) -> None:
    """Take out of the session what the client replaced: it sent the whole conversation up to an
    answer, and another turn, or the same one for another answer, than followed there. Taken back as
    by `delete`: it can be undone for a day. Raises ApiError."""
    with as_api_errors():
        _, replaced = await _continued(store, tenant, session, messages)
        if replaced:
            await store.changes.delete(tenant, session, replaced)


async def _continued(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message]
) -> tuple[int, list[str]]:
    """Where the session begins with all messages up to the last answer: how many of the newer ones
    follow there, and the cursors of what follows instead of the rest, if only chats put it there.

    Costs one look at the session as long as nothing follows.
    """
    start = _after_last_answer(messages)
    before = [m for m in messages[:start] if m["role"] not in _SYSTEM]
    new = [m for m in messages[start:] if m["role"] not in _SYSTEM]
    if not before or await store.steps(tenant, session) <= len(before):
        return 0, []
    log: list[Message] = []
    while page := await store.read(tenant, session, log[-1]["cursor"] if log else 0, PAGE):
        log += page
        if any(_turn(a) != _turn(b) for a, b in zip(before, log, strict=False)):
            return 0, []
    after = log[len(before) :]
    pairs = zip(new, after, strict=False)
    known = next((n for n, (a, b) in enumerate(pairs) if _turn(a) != _turn(b)), None)
    known = min(len(new), len(after)) if known is None else known
    rest = after[known:]
    chats = all(step["id"].startswith((SAID, ANSWER)) for step in after)
    if not rest or rest[0]["role"] == "tool" or not chats:
        return known, []
    return known, [step["cursor"] for step in rest]


async def _turns_taken_back(store: MemoryStore, tenant: str, session: str) -> int:
    """How often turns were replaced so far: their ids stay taken, and a turn may come back."""
    if not await store.steps(tenant, session):
        return 0
    return (await store.stats(tenant, session))["deleted"]


def _turn(message: Message) -> str:
    """What makes a message sent and a step stored the same."""
    calls = [call.get("function") for call in message.get("tool_calls") or ()]
    return json.dumps([message["role"], text_of(message.get("content")), calls], sort_keys=True)


def _after_last_answer(messages: Sequence[Message]) -> int:
    """The index after the last answer; 0 where there is none."""
    return max((i + 1 for i, m in enumerate(messages) if m["role"] == "assistant"), default=0)


def event_of(message: Message) -> Message:
    """What memory takes of a message; what was thought belongs to the answer it led to."""
    event = {"role": message["role"], "content": text_of(message.get("content"))}
    kept = ("name", "tool_calls", "tool_call_id")
    return event | {key: message[key] for key in kept if message.get(key)}


def _prefix_ids(messages: Sequence[Message]) -> list[str]:
    """Per message the id of the conversation up to it: the hash of its JSON array, system messages
    left out. Hashed once along the way, as conversations are long."""
    ids: list[str] = []
    hashed = hashlib.sha256(b"[")
    between = b""
    for message in messages:
        if message["role"] not in _SYSTEM:
            hashed.update(between + json.dumps(message, sort_keys=True).encode())
            between = b", "
        whole = hashed.copy()
        whole.update(b"]")
        ids.append(SAID + whole.hexdigest()[:24])
    return ids


@contextmanager
def as_api_errors(param: str = "session_id") -> Iterator[None]:
    """Memory's errors as ApiErrors."""
    try:
        yield
    except RedisError as error:
        message = "The session's memory is not available now; leave session_id out or try again."
        raise ApiError(
            503, message, param=param, code="memory_unavailable", retry_after=2
        ) from error
    except StoreError as error:
        raise ApiError(400, str(error), param=param, code="session_refused") from error
