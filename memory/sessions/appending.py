"""Appending steps to a session: checks on a batch, and one call of append.lua.

The call makes steps idempotent by id, counts them and adds them to the session's BM25 index.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from burnish.memory.errors import BadStep, IdConflict, TooLarge
from burnish.memory.search.terms import terms
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.scripts import Scripts, refusal
from burnish.memory.sessions.steps import StepDraft, parse, to_json

SHORT = 1000  # characters, about a millisecond's tokenising
MAX_BATCH = 256  # events
MAX_BATCH_BYTES = 1024 * 1024


class Appended(TypedDict):
    """Where a step is in the log, and its tokens, framing included."""

    id: str
    cursor: str
    tokens: int


def parse_batch(events: Sequence[Mapping[str, Any]]) -> list[StepDraft]:
    """The events as drafts. Raises BadStep, TooLarge, IdConflict."""
    drafts = [parse(event) for event in events]
    if not drafts:
        raise BadStep("events is empty")
    size = sum(len(draft.text.encode()) for draft in drafts)
    if len(drafts) > MAX_BATCH or size > MAX_BATCH_BYTES:
        raise TooLarge(f"one append takes {MAX_BATCH} events and {MAX_BATCH_BYTES} bytes at most")
    digests: dict[str, str] = {}
    for draft in drafts:
        if digests.setdefault(draft.id, draft.digest) != draft.digest:
            raise IdConflict(f"id {draft.id!r} occurs twice in this call with different content")
    return drafts


async def append_steps(
    scripts: Scripts,
    keys: SessionKeys,
    drafts: Sequence[StepDraft],
    price: Callable[[str], int],
    now: float,
    user: str | None = None,
) -> list[Appended]:
    """Append all or none; one whose id is known keeps its first cursor.

    Raises BadStep, IdConflict, Forgotten.
    """
    if sum(len(draft.text) for draft in drafts) > SHORT:  # tokenised where nobody waits for it
        names, args = await asyncio.to_thread(_script_args, keys, drafts, price, now, user)
    else:
        names, args = _script_args(keys, drafts, price, now, user)
    reply = await scripts.append(keys=[*keys.fixed, *names], args=args)
    if reply[0] != "ok":
        raise refusal(reply[0], reply[1], keys.session)
    return [
        Appended(id=draft.id, cursor=place.split(":")[0], tokens=int(place.split(":")[1]))
        for draft, place in zip(drafts, reply[2:], strict=True)
    ]


def _script_args(
    keys: SessionKeys,
    drafts: Sequence[StepDraft],
    price: Callable[[str], int],
    now: float,
    user: str | None,
) -> tuple[Sequence[str], list[str | int]]:
    """The posting lists the script will touch, and its arguments (see append.lua)."""
    key_numbers: dict[str, int] = {}
    prefix, first = keys.postings, len(keys.fixed) + 1
    args: list[str | int] = [prefix, f"{now:.3f}", first - 1, len(drafts)]
    for draft in drafts:
        counts = terms(draft.text)
        length = counts.total()
        tokens = price(draft.text)
        occurrences: list[int] = []
        for term, count in counts.items():
            number = key_numbers.setdefault(prefix + term, first + len(key_numbers))
            occurrences += [number, count]
        args += [
            draft.id,
            draft.digest,
            draft.pin_reason,
            int(draft.role == "user"),
            tokens,
            length,
        ]
        args += [draft.tool_call_id or "", len(draft.call_ids), *draft.call_ids]
        args += [to_json(draft, tokens, length, now, user), len(occurrences), *occurrences]
    return list(key_numbers), args
