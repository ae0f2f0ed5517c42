"""MemoryStore: the steps of agents' sessions, kept whole in Redis, and views that fit a budget.

Sessions are append-only streams; one script call per append makes steps idempotent,
counts them and indexes them for BM25. `context` builds the view, `search` finds steps,
`forget` erases. `.compaction` decides what the view of a long session shows, `.changes`
holds pins, deletions and undo, `.records` the facts that outlive a session, `.turns` what the
Responses API goes on from.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from burnish.feedback.redis_clients import open_async_client
from burnish.memory.compaction.background import BackgroundCompaction
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policy_runner import PolicyRunner
from burnish.memory.compaction.policy_view import policy_view
from burnish.memory.compaction.session_compaction import SessionCompaction
from burnish.memory.compaction.session_index import SessionIndexes
from burnish.memory.compaction.stateless import CompactedMessages, compact_messages
from burnish.memory.compaction.summaries import Summariser
from burnish.memory.errors import BadCursor, SessionNotFound
from burnish.memory.records.extraction import Extraction, JsonGenerator
from burnish.memory.records.files import Files
from burnish.memory.records.records import Records
from burnish.memory.sessions.appending import Appended, append_steps, parse_batch
from burnish.memory.sessions.changes import Changes
from burnish.memory.sessions.keys import SessionKeys, TenantKeys
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.scripts import Scripts, refusal, session_keys
from burnish.memory.sessions.snapshot import (
    SessionSnapshot,
    check_exists,
    current_snapshot,
    snapshot_at,
)
from burnish.memory.sessions.steps import MAX_USER, clean, parse_cursor
from burnish.memory.turns import DAYS, Turns
from burnish.memory.views.context import WHOLE, ContextView, left_out
from burnish.memory.views.default_view import default_view
from redis.asyncio import Redis


def connect(url: str) -> Redis:
    """A client with the time-outs the store needs. Close it with `aclose()`."""
    return open_async_client(
        url, decode_responses=True, socket_timeout=5, socket_connect_timeout=5, protocol=3
    )


class MemoryStore:
    """Counts with the model's own tokenizer; `overhead` is what framing adds per message.

    `policies`, `summarise` and `ask` bring what needs the served model; the rest works without.
    A policy may take `policy_seconds`, turns are kept for `turn_days`; `background_policy` is the one `.background` compacts with.
    """

    def __init__(
        self,
        redis: Redis,
        count_tokens: Callable[[str], int],
        *,
        overhead: int = 6,
        clock: Callable[[], float] = time.time,
        policies: CompactionPolicies | None = None,
        summarise: Summariser | None = None,
        ask: JsonGenerator | None = None,
        background_policy: str = "bm25",
        policy_seconds: float = 20.0,
        turn_days: float = DAYS,
    ) -> None:
        if not redis.get_encoder().decode_responses:
            raise ValueError("memory needs decode_responses=True: use burnish.memory.connect(url)")
        self._redis: Any = redis  # replies are typed for bytes and text alike; ours are text
        self._clock = clock
        self._price = lambda text: count_tokens(text) + overhead
        self._scripts = Scripts(redis)
        self._runner = PolicyRunner(
            policies or CompactionPolicies(), self._price, summarise, seconds=policy_seconds
        )
        self.records = Records(redis, clock)
        self.files = Files(redis)
        self.turns = Turns(redis, turn_days)
        self.extraction = Extraction(redis, self._scripts, self.records, ask)
        self.changes = Changes(redis, self._scripts, clock)
        self._indexes = SessionIndexes(self._price)
        self.compaction = SessionCompaction(
            redis, self._scripts, self._runner, self._price, self._indexes, clock
        )
        self.background = BackgroundCompaction(
            redis, self.compaction, self.changes, background_policy
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
        drafts = parse_batch(events)
        keys = session_keys(tenant, session)
        if user is not None:
            # Before the steps, so that no step exists that forget(user) would not find.
            clean("user", user, MAX_USER)
            await self._redis.sadd(TenantKeys(tenant).sessions_of(user), session)
        return await append_steps(self._scripts, keys, drafts, self._price, self._clock(), user)

    async def context(
        self,
        tenant: str,
        session: str,
        budget: int,
        query: str | None = None,
        *,
        policy: str | None = None,
        version: int | None = None,
    ) -> ContextView:
        """The session within `budget` tokens; an empty view for a session never seen.

        Shown are the floor, rules, the newest exchange, what the plan in force shows, the newest
        steps, and, quoted in one block, what `query` (default: the newest user step) recalls; then
        more of the newest until the budget is full. `left_out` says what is missing and why. With
        `policy` that policy decides over the whole log instead, for this view alone. With `version`
        it is the view as the session was then. Raises BudgetTooSmall, UnknownPolicy, Stale, Forgotten.
        """
        keys = session_keys(tenant, session)
        try:
            snapshot = await self._snapshot(keys, version)
        except SessionNotFound:
            return ContextView(
                messages=[],
                tokens=0,
                version=0,
                plan=None,
                policy=None,
                fell_back=None,
                left_out=WHOLE,
            )
        if policy is None:
            log = self._log(keys, snapshot)
            nodes = await self.compaction.plan_store.nodes(
                keys, snapshot.plan.nodes if snapshot.plan else ()
            )
            view, rules = await default_view(log, snapshot, nodes, budget, query, self._price)
            plan = snapshot.plan
            decided, fell_back = (plan.policy, plan.fell_back) if plan else (None, "")
        else:
            nodes = await self.compaction.plan_store.nodes(keys)
            plan = None
            units = await self._indexes.units(self._redis, keys, self._scripts, snapshot)
            view, outcome, rules = await policy_view(
                units, snapshot, self._runner, nodes, budget, query, policy, self._price
            )
            decided, fell_back = outcome.policy, outcome.fell_back
        return ContextView(
            messages=view.messages(),
            tokens=view.tokens,
            version=snapshot.version,
            plan=plan.id if plan else None,
            policy=decided,
            fell_back=fell_back or None,
            left_out=left_out(view, snapshot, rules, decided if policy else None),
        )

    async def compact_messages(
        self,
        events: Sequence[Mapping[str, Any]],
        budget: int,
        policy: str = "bm25",
        query: str | None = None,
    ) -> CompactedMessages:
        """A conversation that is not stored here, within `budget` tokens. Nothing is kept.

        Raises BadStep, TooLarge, BudgetTooSmall, UnknownPolicy.
        """
        return await compact_messages(self._runner, self._price, events, budget, policy, query)

    async def search(
        self, tenant: str, session: str, query: str, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The session's steps that match best, each with its `score`. Raises SessionNotFound."""
        keys = session_keys(tenant, session)
        log = self._log(keys, await current_snapshot(self._redis, keys))
        return [{**step.public(), "score": score} for step, score in await log.rank(query, limit)]

    async def read(
        self,
        tenant: str,
        session: str,
        after: str | int = 0,
        limit: int = 100,
        *,
        version: int | None = None,
    ) -> list[dict[str, Any]]:
        """The log itself, in order, from after the cursor `after`; with `version`, as it was."""
        keys = session_keys(tenant, session)
        log = self._log(keys, await self._snapshot(keys, version))
        return [step.public() for step in await log.after(parse_cursor(after), limit)]

    async def newest(self, tenant: str, session: str, limit: int) -> list[dict[str, Any]]:
        """The newest steps, in the order of the log. Raises SessionNotFound."""
        keys = session_keys(tenant, session)
        log = self._log(keys, await current_snapshot(self._redis, keys))
        return [step.public() for step in await log.newest(limit)]

    async def steps(self, tenant: str, session: str) -> int:
        """How many steps the session shows; 0 for one never seen. Raises Forgotten."""
        keys = session_keys(tenant, session)
        meta = await self._redis.hgetall(keys.meta)
        if not meta:
            return 0
        check_exists(meta, keys)
        return int(meta["docs"]) - await self._redis.hlen(keys.deleted)

    async def stats(self, tenant: str, session: str) -> dict[str, Any]:
        """Counts, tokens, version and times. Raises SessionNotFound, Forgotten."""
        keys = session_keys(tenant, session)
        snapshot = await current_snapshot(self._redis, keys)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.hlen(keys.pins)
            pipe.hlen(keys.open)
            meta, pinned, waiting = await pipe.execute()
        check_exists(meta, keys)
        return {
            "session_id": session,
            "steps": int(meta["docs"]),
            "newest": meta["seq"],
            "tokens": int(meta["tokens"]),
            "pinned": pinned,
            "open_tool_calls": waiting,
            "deleted": len(snapshot.hidden),
            "forgotten": int(meta.get("forgotten", 0)),
            "version": int(meta["version"]),
            "plan": snapshot.plan.id if snapshot.plan else None,
            "compactions": int(meta.get("plans", 0)),
            "tokens_view": snapshot.used,
            "tokens_saved": max(int(meta["tokens"]) - snapshot.used, 0),
            "created_at": float(meta["created_at"]),
            "updated_at": float(meta["updated_at"]),
        }

    async def forget(
        self, tenant: str, session: str, cursors: Iterable[str | int] | None = None
    ) -> int:
        """Erase a session, or only some of its steps, now and for good; how many steps went.

        A tool call goes with its results. Tombstones keep ids from coming back.
        """
        keys = session_keys(tenant, session)
        self._indexes.drop(keys)
        now = f"{self._clock():.3f}"
        if cursors is None:
            erased = await self._scripts.forget_session(keys=keys.fixed, args=[keys.postings, now])
            if erased < 0:
                raise refusal("unknown", "", session)
            await self.turns.forget(tenant, session=session)
            return erased
        doomed = [parse_cursor(cursor) for cursor in cursors]
        if not doomed:
            raise BadCursor("name at least one cursor, or leave cursors out to forget the session")
        reply = await self._scripts.forget_steps(
            keys=keys.fixed, args=[keys.postings, now, "", *doomed]
        )
        if reply[0] != "ok":
            raise refusal(reply[0], reply[1], session)
        await self.turns.forget(tenant, session=session)  # one of them may hold what the steps said
        return reply[1]

    async def forget_user(self, tenant: str, user: str) -> dict[str, int]:
        """Erase every session this end user took part in and what was extracted from it, and the
        user's records and files; how many of each. Of a session shared with others only the steps in
        this user's name go, with their tool exchanges."""
        owned = TenantKeys(tenant).sessions_of(user)
        sessions = await self.sessions_of(tenant, user)
        erased = records = 0
        for session in sessions:
            keys = session_keys(tenant, session)
            self._indexes.drop(keys)
            mine, others = await self._by_whom(keys, user)
            if others:
                erased += await self.forget(tenant, session, mine) if mine else 0
            else:
                gone = await self._scripts.forget_session(
                    keys=keys.fixed, args=[keys.postings, f"{self._clock():.3f}"]
                )
                erased += max(gone, 0)
                records += await self.records.forget_session(tenant, session)
                await self.turns.forget(tenant, session=session)
            await self._redis.srem(owned, session)
        records += await self.records.forget_user(tenant, user)
        files = await self.files.forget_user(tenant, user)
        await self.turns.forget(tenant, user=user)
        return {"sessions": len(sessions), "steps": erased, "records": records, "files": files}

    async def _by_whom(self, keys: SessionKeys, user: str) -> tuple[list[int], bool]:
        """The places of the steps in this user's name, and whether others have steps there too."""
        steps = [step for unit in await self._whole_log(keys).all_units() for step in unit.steps]
        mine = [step.seq for step in steps if step.user == user]
        return mine, any(step.user not in (None, user) for step in steps)

    async def sessions_of(self, tenant: str, user: str) -> list[str]:
        """The sessions this end user took part in, by name."""
        return sorted(await self._redis.smembers(TenantKeys(tenant).sessions_of(user)))

    async def _snapshot(self, keys: SessionKeys, version: int | None) -> SessionSnapshot:
        if version is None:
            return await current_snapshot(self._redis, keys)
        return await snapshot_at(self._redis, keys, version)

    def _whole_log(self, keys: SessionKeys) -> SessionLog:
        """With what is deleted but not erased yet."""
        return SessionLog(self._redis, keys, self._scripts)

    def _log(self, keys: SessionKeys, snapshot: SessionSnapshot) -> SessionLog:
        return SessionLog(self._redis, keys, self._scripts, snapshot.seq, snapshot.hidden)
