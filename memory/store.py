"""MemoryStore: what an agent did, kept whole in Redis, and given back within a budget.

Sessions are append-only streams; one script call per append makes steps idempotent,
counts them and indexes them for BM25. `context` builds the view, `search` finds steps,
`forget` erases. `.compaction` decides what the view of a long session shows, `.changes`
holds pins, deletions and undo, `.records` the facts that outlive a session.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

from burnish.memory.compaction.background import BackgroundCompaction
from burnish.memory.compaction.compaction import Compaction
from burnish.memory.compaction.decided_view import decided_view
from burnish.memory.compaction.policies import Policies
from burnish.memory.compaction.policy_runner import PolicyRunner
from burnish.memory.compaction.stateless import Compacted, compact_messages
from burnish.memory.compaction.summaries import Summariser
from burnish.memory.errors import BadCursor, BadStep, IdConflict, SessionNotFound, TooLarge
from burnish.memory.records.extraction import Asker, Extraction
from burnish.memory.records.files import Files
from burnish.memory.records.records import Records
from burnish.memory.search.terms import terms
from burnish.memory.sessions import snapshot as moments
from burnish.memory.sessions import steps as step_log
from burnish.memory.sessions.changes import Changes
from burnish.memory.sessions.keys import SessionKeys, TenantKeys
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.scripts import Scripts, refusal, session_keys
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.steps import Draft, parse_cursor
from burnish.memory.views.context import usual_view
from burnish.memory.views.view import ContextView
from redis.asyncio import Redis

MAX_BATCH = 256
MAX_BATCH_BYTES = 1024 * 1024


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
    """Counts with the model's own tokenizer; `overhead` is what framing adds per message.

    `policies`, `summarise` and `ask` bring what needs the served model; the rest works without.
    `upkeep_policy` decides when `.upkeep` compacts in the background.
    """

    def __init__(
        self,
        redis: Redis,
        count_tokens: Callable[[str], int],
        *,
        overhead: int = 6,
        clock: Callable[[], float] = time.time,
        policies: Policies | None = None,
        summarise: Summariser | None = None,
        ask: Asker | None = None,
        upkeep_policy: str = "bm25",
    ) -> None:
        if not redis.get_encoder().decode_responses:
            raise ValueError("memory needs decode_responses=True: use burnish.memory.connect(url)")
        self._redis: Any = redis  # replies are typed for bytes and text alike; ours are text
        self._clock = clock
        self._price = lambda text: count_tokens(text) + overhead
        self._scripts = Scripts(redis)
        self._decider = PolicyRunner(policies or Policies(), self._price, summarise)
        self.records = Records(redis, clock)
        self.files = Files(redis)
        self.extraction = Extraction(redis, self._scripts, self.records, ask)
        self.changes = Changes(redis, self._scripts, clock)
        self.compaction = Compaction(redis, self._scripts, self._decider, self._price, clock)
        self.upkeep = BackgroundCompaction(redis, self.compaction, self.changes, upkeep_policy)

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
        keys = session_keys(tenant, session)
        if user is not None:
            # Before the steps, so that no step exists that forget(user) would not find.
            step_log.clean("user", user, 256)
            await self._redis.sadd(TenantKeys(tenant).sessions_of(user), session)
        names, args = self._append_args(keys, drafts)
        reply = await self._scripts.append(keys=[*keys.fixed, *names], args=args)
        if reply[0] != "ok":
            raise refusal(reply[0], reply[1], session)
        return [
            Appended(id=draft.id, cursor=place.split(":")[0], tokens=int(place.split(":")[1]))
            for draft, place in zip(drafts, reply[2:], strict=True)
        ]

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

        Shown are the floor, what the plan in force shows, the newest steps, and, quoted in one
        block, what `query` (default: the newest user step) recalls. With `policy` that policy
        decides over the whole log instead, for this view alone. With `version` it is the view as
        the session was then. Raises BudgetTooSmall, UnknownPolicy, Stale, Forgotten.
        """
        keys = session_keys(tenant, session)
        try:
            moment = await self._moment(keys, version)
        except SessionNotFound:
            return ContextView(messages=[], tokens=0, version=0, plan=None)
        log = self._log(keys, moment)
        if policy is None:
            nodes = await self.compaction.nodes(keys, moment.plan.nodes if moment.plan else ())
            view = await usual_view(log, moment, nodes, budget, query, self._price)
        else:
            nodes = await self.compaction.nodes(keys)
            view = await decided_view(
                log, moment, self._decider, nodes, budget, query, policy, self._price
            )
        plan = moment.plan.id if moment.plan and policy is None else None
        return ContextView(
            messages=view.messages(), tokens=view.tokens, version=moment.version, plan=plan
        )

    async def compact_messages(
        self,
        events: Sequence[Mapping[str, Any]],
        budget: int,
        policy: str = "bm25",
        query: str | None = None,
    ) -> Compacted:
        """A conversation that is not stored here, within `budget` tokens. Nothing is kept.

        Raises BadStep, TooLarge, BudgetTooSmall, UnknownPolicy.
        """
        return await compact_messages(self._decider, self._price, events, budget, policy, query)

    async def search(
        self, tenant: str, session: str, query: str, limit: int = 10
    ) -> list[dict[str, Any]]:
        """The session's steps that match best, each with its `score`. Raises SessionNotFound."""
        keys = session_keys(tenant, session)
        log = self._log(keys, await moments.now(self._redis, keys))
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
        """The log itself, in order, from behind the cursor `after`; with `version`, as it was."""
        keys = session_keys(tenant, session)
        log = self._log(keys, await self._moment(keys, version))
        return [step.public() for step in await log.after(parse_cursor(after), limit)]

    async def steps(self, tenant: str, session: str) -> int:
        """How many steps the session holds; 0 for one never seen. Raises Forgotten."""
        keys = session_keys(tenant, session)
        meta = await self._redis.hgetall(keys.meta)
        if not meta:
            return 0
        moments.check(meta, keys)
        return int(meta["docs"])

    async def stats(self, tenant: str, session: str) -> dict[str, Any]:
        keys = session_keys(tenant, session)
        moment = await moments.now(self._redis, keys)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.hlen(keys.pins)
            pipe.hlen(keys.open)
            meta, pinned, waiting = await pipe.execute()
        moments.check(meta, keys)
        return {
            "session_id": session,
            "steps": int(meta["docs"]),
            "tokens": int(meta["tokens"]),
            "pinned": pinned,
            "open_tool_calls": waiting,
            "deleted": len(moment.hidden),
            "forgotten": int(meta.get("forgotten", 0)),
            "version": int(meta["version"]),
            "plan": moment.plan.id if moment.plan else None,
            "compactions": int(meta.get("plans", 0)),
            "tokens_view": moment.used,
            "tokens_saved": max(int(meta["tokens"]) - moment.used, 0),
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
        now = f"{self._clock():.3f}"
        if cursors is None:
            erased = await self._scripts.forget_session(keys=keys.fixed, args=[keys.postings, now])
            if erased < 0:
                raise refusal("unknown", "", session)
            return erased
        doomed = [parse_cursor(cursor) for cursor in cursors]
        if not doomed:
            raise BadCursor("name at least one cursor, or leave cursors out to forget the session")
        reply = await self._scripts.forget_steps(
            keys=keys.fixed, args=[keys.postings, now, "", *doomed]
        )
        if reply[0] != "ok":
            raise refusal(reply[0], reply[1], session)
        return reply[1]

    async def forget_user(self, tenant: str, user: str) -> dict[str, int]:
        """Erase every session this end user took part in and what was extracted from it, and
        the user's records and files; how many of each."""
        owned = TenantKeys(tenant).sessions_of(user)
        sessions = await self.sessions_of(tenant, user)
        erased = records = 0
        for session in sessions:
            keys = session_keys(tenant, session)
            gone = await self._scripts.forget_session(
                keys=keys.fixed, args=[keys.postings, f"{self._clock():.3f}"]
            )
            erased += max(gone, 0)
            records += await self.records.forget_session(tenant, session)
            await self._redis.srem(owned, session)
        records += await self.records.forget_user(tenant, user)
        files = await self.files.forget_user(tenant, user)
        return {"sessions": len(sessions), "steps": erased, "records": records, "files": files}

    async def sessions_of(self, tenant: str, user: str) -> list[str]:
        """The sessions this end user took part in, by name."""
        return sorted(await self._redis.smembers(TenantKeys(tenant).sessions_of(user)))

    async def _moment(self, keys: SessionKeys, version: int | None) -> SessionSnapshot:
        if version is None:
            return await moments.now(self._redis, keys)
        return await moments.at(self._redis, keys, version)

    def _log(self, keys: SessionKeys, moment: SessionSnapshot) -> SessionLog:
        return SessionLog(self._redis, keys, self._scripts, moment.seq, moment.hidden)

    def _append_args(
        self, keys: SessionKeys, drafts: Sequence[Draft]
    ) -> tuple[Sequence[str], list[str | int]]:
        """The posting lists the script will touch, and its arguments (see append.lua)."""
        now = self._clock()
        places: dict[str, int] = {}
        prefix, first = keys.postings, len(keys.fixed) + 1
        args: list[str | int] = [prefix, f"{now:.3f}", first - 1, len(drafts)]
        for draft in drafts:
            counts = terms(draft.text)
            length = counts.total()
            tokens = self._price(draft.text)
            found: list[int] = []
            for term, count in counts.items():
                place = places.setdefault(prefix + term, first + len(places))
                found += [place, count]
            args += [draft.id, draft.digest, draft.pin_reason, tokens, length]
            args += [draft.tool_call_id or "", len(draft.call_ids), *draft.call_ids]
            args += [step_log.to_json(draft, tokens, length, now), len(found), *found]
        return list(places), args


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
