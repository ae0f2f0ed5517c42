"""MemoryStore: what an agent did, kept whole in Redis, and given back within a budget.

Sessions are append-only streams; one script call per append makes steps idempotent,
counts them and indexes them for BM25. `context` builds the view, `search` finds steps,
`forget` erases. Facts that outlive a session are in `.records`. Left out for now:
summaries, learned compaction, compare-and-set.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from importlib.resources import files
from typing import Any, TypedDict

from burnish.memory import steps as step_log
from burnish.memory.errors import (
    BadCursor,
    BadStep,
    Forgotten,
    IdConflict,
    SessionNotFound,
    TooLarge,
)
from burnish.memory.keys import SessionKeys, TenantKeys
from burnish.memory.log import SessionLog
from burnish.memory.records import Records, pack
from burnish.memory.steps import Draft, parse_cursor
from burnish.memory.terms import terms
from burnish.memory.view import ContextView, View
from redis.asyncio import Redis

MAX_BATCH = 256
MAX_BATCH_BYTES = 1024 * 1024
CANDIDATES = 48
TAIL_SHARE = 0.5  # of what the floor leaves, when not everything fits


class Appended(TypedDict):
    id: str
    cursor: str
    tokens: int


def connect(url: str) -> Redis:
    """A client with the time-outs this store is made for. Close it with `aclose()`."""
    return Redis.from_url(
        url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5, protocol=3
    )


class MemoryStore:
    """Counts with the model's own tokenizer; `overhead` is what framing adds per message."""

    def __init__(
        self,
        redis: Redis,
        count_tokens: Callable[[str], int],
        *,
        overhead: int = 6,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not redis.get_encoder().decode_responses:
            raise ValueError("memory needs decode_responses=True: use burnish.memory.connect(url)")
        scripts = files("burnish.memory")
        self.records = Records(redis, clock)
        self._redis: Any = redis  # replies are typed for bytes and text alike; ours are text
        self._clock = clock
        self._price = lambda text: count_tokens(text) + overhead
        self._append, self._search, self._forget_session, self._forget_steps = (
            redis.register_script((scripts / name).read_text())
            for name in ("append.lua", "search.lua", "forget_session.lua", "forget_steps.lua")
        )

    async def append(
        self,
        tenant: str,
        session: str,
        events: Sequence[Mapping[str, Any]],
        *,
        user: str | None = None,
    ) -> list[Appended]:
        """Append all events or none; one whose id is known gives its first cursor again.

        Raises BadStep, TooLarge, IdConflict (same id, other content), Forgotten.
        """
        drafts = [step_log.parse(event) for event in events]
        _check_batch(drafts)
        keys = _keys(tenant, session)
        if user is not None:
            # Before the steps, so that no step exists that forget(user) would not find.
            step_log.clean("user", user, 256)
            await self._redis.sadd(TenantKeys(tenant).sessions_of(user), session)
        names, args = self._append_args(keys, drafts)
        reply = await self._append(keys=[*keys.fixed, *names], args=args)
        if reply[0] != "ok":
            raise _refusal(reply[0], reply[1], session)
        return [
            Appended(id=draft.id, cursor=place.split(":")[0], tokens=int(place.split(":")[1]))
            for draft, place in zip(drafts, reply[2:], strict=True)
        ]

    async def context(
        self, tenant: str, session: str, budget: int, query: str | None = None
    ) -> ContextView:
        """The session within `budget` tokens; an empty view for a session never seen.

        What does not fit the tail is recalled by `query` (default: the newest user step)
        and enters as one quoted block. Raises BudgetTooSmall, Forgotten.
        """
        keys = _keys(tenant, session)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.hkeys(keys.pins)
            pipe.hvals(keys.open)
            meta, pinned, waiting = await pipe.execute()
        if not meta:
            return ContextView(messages=[], tokens=0, version=0)
        _refuse_forgotten(meta, session)

        view = View(budget, self._price)
        log = self._log(keys)
        floor = sorted({int(seq) for seq in [*pinned, *waiting]})
        view.add_floor(await log.units(await log.steps(floor)))
        fits = int(meta["tokens"]) <= budget
        room = view.left if fits else int(view.left * TAIL_SHARE)

        async with aclosing(log.newest_first()) as newest:
            unit = await anext(newest, None)
            oldest, asked, last = int(meta["seq"]) + 1, "", unit.text if unit else ""
            while unit is not None and (spent := view.add_recent(unit, room)) is not None:
                room -= spent
                oldest = min(oldest, unit.first)
                asked = asked or next((s.content for s in unit.steps if s.role == "user"), "")
                unit = await anext(newest, None)
            if unit is not None:
                hits = await log.rank(query or asked or last, CANDIDATES + len(floor), oldest)
                view.recall(await log.units([step for step, _ in hits]))
            while unit is not None and view.add_recent(unit, view.left) is not None:
                unit = await anext(newest, None)
        return ContextView(
            messages=view.messages(), tokens=view.tokens, version=int(meta["version"])
        )

    async def search(
        self, tenant: str, session: str, query: str, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The session's steps that match best, each with its `score`. Raises SessionNotFound."""
        keys = _keys(tenant, session)
        await self._meta(keys)
        return [
            {**step.public(), "score": score}
            for step, score in await self._log(keys).rank(query, limit)
        ]

    async def read(
        self, tenant: str, session: str, after: str | int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """The log itself, in order, from behind the cursor `after`."""
        keys = _keys(tenant, session)
        await self._meta(keys)
        return [step.public() for step in await self._log(keys).after(parse_cursor(after), limit)]

    async def pin(self, tenant: str, session: str, cursor: str | int, pinned: bool = True) -> None:
        """Keep a step in every view, or stop doing so."""
        keys = _keys(tenant, session)
        await self._meta(keys)
        seq = parse_cursor(cursor)
        if not await self._log(keys).steps([seq]):
            raise BadCursor(f"no step {cursor!r} in session {session!r}")
        async with self._redis.pipeline(transaction=True) as pipe:
            if pinned:
                pipe.hsetnx(keys.pins, str(seq), "user")
            else:
                pipe.hdel(keys.pins, str(seq))
            pipe.hincrby(keys.meta, "version", 1)
            await pipe.execute()

    async def stats(self, tenant: str, session: str) -> dict[str, Any]:
        keys = _keys(tenant, session)
        meta = await self._meta(keys)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hlen(keys.pins)
            pipe.hlen(keys.open)
            pinned, waiting = await pipe.execute()
        return {
            "session_id": session,
            "steps": int(meta["docs"]),
            "tokens": int(meta["tokens"]),
            "pinned": pinned,
            "open_tool_calls": waiting,
            "forgotten": int(meta.get("forgotten", 0)),
            "version": int(meta["version"]),
            "created_at": float(meta["created_at"]),
            "updated_at": float(meta["updated_at"]),
        }

    async def forget(
        self, tenant: str, session: str, cursors: Iterable[str | int] | None = None
    ) -> int:
        """Erase a session, or only some of its steps; how many steps went.

        A tool call goes with its results. Tombstones keep ids from coming back.
        """
        keys = _keys(tenant, session)
        now = f"{self._clock():.3f}"
        if cursors is None:
            erased = await self._forget_session(keys=keys.fixed, args=[keys.postings, now])
            if erased < 0:
                raise _refusal("unknown", "", session)
            return erased
        doomed = [parse_cursor(cursor) for cursor in cursors]
        if not doomed:
            raise BadCursor("name at least one cursor, or leave cursors out to forget the session")
        reply = await self._forget_steps(keys=keys.fixed, args=[keys.postings, now, *doomed])
        if reply[0] != "ok":
            raise _refusal(reply[0], reply[1], session)
        return reply[1]

    async def forget_user(self, tenant: str, user: str) -> dict[str, int]:
        """Erase every session this end user took part in, and the user's records."""
        owned = TenantKeys(tenant).sessions_of(user)
        sessions = await self._redis.smembers(owned)
        erased = 0
        for session in sorted(sessions):
            keys = _keys(tenant, session)
            gone = await self._forget_session(
                keys=keys.fixed, args=[keys.postings, f"{self._clock():.3f}"]
            )
            erased += max(gone, 0)
            await self._redis.srem(owned, session)
        records = await self.records.forget_user(tenant, user)
        return {"sessions": len(sessions), "steps": erased, "records": records}

    async def _meta(self, keys: SessionKeys) -> Mapping[str, str]:
        meta = await self._redis.hgetall(keys.meta)
        if not meta:
            raise _refusal("unknown", "", keys.session)
        _refuse_forgotten(meta, keys.session)
        return meta

    def _log(self, keys: SessionKeys) -> SessionLog:
        return SessionLog(self._redis, keys, self._search)

    def _append_args(
        self, keys: SessionKeys, drafts: Sequence[Draft]
    ) -> tuple[Sequence[str], list[str | int]]:
        """The posting lists the script will touch, and its arguments (see append.lua)."""
        now = self._clock()
        places: dict[str, int] = {}
        args: list[str | int] = [keys.postings, f"{now:.3f}", len(drafts)]
        for draft in drafts:
            counts = terms(draft.text)
            length = sum(counts.values())
            tokens = self._price(draft.text)
            fields = step_log.to_fields(draft, tokens, length, now)
            packed: list[str | int] = []
            for term, count in counts.items():
                place = places.setdefault(keys.postings + term, len(keys.fixed) + 1 + len(places))
                packed += [place, pack(count, length)]
            args += [draft.id, draft.digest, draft.pin_reason, tokens, length]
            args += [draft.tool_call_id or ""]
            for many in (draft.call_ids, fields, packed):
                args += [len(many), *many]
        return list(places), args


def _keys(tenant: str, session: str) -> SessionKeys:
    step_log.clean("session_id", session, 256)
    if not session or not session.isprintable():
        raise BadStep("a session id is 1 to 256 printable characters")
    return SessionKeys(tenant, session)


def _check_batch(drafts: Sequence[Draft]) -> None:
    if not drafts:
        raise BadStep("events is empty")
    size = sum(len(draft.text.encode()) for draft in drafts)
    if len(drafts) > MAX_BATCH or size > MAX_BATCH_BYTES:
        raise TooLarge(f"one append takes {MAX_BATCH} events and {MAX_BATCH_BYTES} bytes at most")
    digests: dict[str, str] = {}
    for draft in drafts:
        if digests.setdefault(draft.id, draft.digest) != draft.digest:
            raise IdConflict(f"id {draft.id!r} occurs twice in this call with different content")


def _refuse_forgotten(meta: Mapping[str, str], session: str) -> None:
    if "forgotten_at" in meta:
        raise _refusal("forgotten", "", session)


def _refusal(problem: str, what: str, session: str) -> Exception:
    match problem:
        case "forgotten":
            return Forgotten(f"session {session!r} was forgotten: start one with another id")
        case "gone":
            return Forgotten(f"step {what!r} was forgotten and is not taken back")
        case "conflict":
            return IdConflict(f"id {what!r} is in the log with different content: use a new id")
        case "orphan":
            return BadStep(
                f"no open tool call {what!r}: append the assistant step with its tool_calls first"
            )
        case "missing":
            return BadCursor(f"no step {what!r} in session {session!r}")
        case _:
            return SessionNotFound(f"no session {session!r}: append a step to begin it")
