"""Chat with a session: what the session adds to a prompt, and what the exchange adds to the session.

Some clients send the whole conversation each time, others only what is new. Both work: what
memory holds and the client also sent is not repeated, and only what follows the last answer in the
request is remembered, then the new answer. What was edited, or asked again, replaces what stood there
before (resent_history.py). A conversation longer than the model's window is stored in the session, whose
view then replaces it. System messages come with each request and are not remembered. Left out:
quoting, budgets and compaction, which are memory's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from burnish.feedback.events import MemoryUsed
from burnish.memory import (
    MAX_BATCH,
    STAND_IN,
    BudgetTooSmall,
    ContextView,
    MemoryStore,
    SessionNotFound,
    StoreError,
)
from burnish.serving.api.chat_template import text_of
from burnish.serving.api.errors import ApiError
from burnish.serving.api.resent_history import (
    SAID,
    SYSTEM,
    Message,
    after_last_answer,
    find_place,
    prefix_ids,
    turn_of,
    without_system,
)
from redis.exceptions import RedisError

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
    sent = Counter(turn_of(message) for message in messages)
    added: list[Message] = []
    cursors: list[str] = []
    answered = {m.get("tool_call_id") for m in messages if m["role"] == "tool"}
    for shown in view["messages"]:
        if shown.get("form") == STAND_IN and shown.get("tool_call_id") in answered:
            continue  # the result that it stands for is in this very request
        message: Message = {k: v for k, v in shown.items() if k not in _PROVENANCE}
        if sent[turn_of(message)] > 0:
            sent[turn_of(message)] -= 1
        else:
            added.append(message)
            cursors += shown["cursors"]
    system = [m for m in messages if m["role"] in SYSTEM]
    rest = [m for m in messages if m["role"] not in SYSTEM]
    used = MemoryUsed(session=session, version=view["version"], plan=view["plan"], cursors=cursors)
    return Recalled((*system, *added, *rest), used, budget)


def newest(messages: Sequence[Message]) -> list[Message]:
    """What follows the last answer, and the system messages."""
    start = after_last_answer(messages)
    return [m for place, m in enumerate(messages) if place >= start or m["role"] in SYSTEM]


async def adopt(
    store: MemoryStore, tenant: str, session: str, messages: Sequence[Message], user: str | None
) -> None:
    """Put all but the newest messages into a session that holds nothing yet. One that does has
    them from earlier turns. Raises ApiError."""
    said = messages[: after_last_answer(messages)]
    ids = prefix_ids(said)
    events = [
        event_of(message) | {"id": ids[place]}
        for place, message in enumerate(said)
        if message["role"] not in SYSTEM
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
    sent = sum(m["role"] not in SYSTEM for m in messages[: after_last_answer(messages)])
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
    *,
    whole: bool = False,
) -> None:
    """Append what was new in `messages`, and the answer. Raises StoreError, RedisError."""
    said = without_system(messages)
    place = await find_place(store, tenant, session, messages, whole=whole)
    if whole or after_last_answer(said):
        # A repeated request is recognisable, unless what it repeats was taken back meanwhile.
        again = await _taken_back(store, tenant, session) or ""
        ids = [f"{said_id}{again}" for said_id in prefix_ids(said)]
    else:
        ids = [f"{SAID}{answer_id}-{n}" for n in range(len(said))]
    events = [event_of(m) | {"id": i} for m, i in zip(said, ids, strict=True)][place.new :]
    events.append({**event_of(answer), "id": answer_id})
    for start in range(0, len(events), MAX_BATCH):
        await store.append(tenant, session, events[start : start + MAX_BATCH], user=user)


async def take_back(
    store: MemoryStore,
    tenant: str,
    session: str,
    messages: Sequence[Message],
    *,
    whole: bool = False,
) -> None:
    """Take out of the session what the client replaced, as by `delete`: it can be undone for a day.
    Raises ApiError."""
    with as_api_errors():
        place = await find_place(store, tenant, session, messages, whole=whole)
        if place.replaced:
            await store.changes.delete(tenant, session, place.replaced)


async def _taken_back(store: MemoryStore, tenant: str, session: str) -> int:
    """How many steps are gone: their ids stay taken, and a turn may come back."""
    try:
        stats = await store.stats(tenant, session)
    except SessionNotFound:
        return 0
    return stats["deleted"] + stats["forgotten"]


def event_of(message: Message) -> Message:
    """What memory takes of a message; what was thought belongs to the answer it led to."""
    event = {"role": message["role"], "content": text_of(message.get("content"))}
    kept = ("name", "tool_calls", "tool_call_id")
    return event | {key: message[key] for key in kept if message.get(key)}


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
