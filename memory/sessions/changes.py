"""Changes to a session and their undo: pins, deletions, compactions.

Every change is recorded with the session's version it made, so it can be listed and undone. A
deletion hides steps at once from views, search and the log, and becomes an erasure when its grace
period is over; until then the steps are stored and it can be undone. Left out: erasing at once,
which is `MemoryStore.forget`.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from burnish.memory.errors import BadCursor, BadStep, UnknownPlan
from burnish.memory.sessions.keys import DUE, SessionKeys, due_member, of_due_member
from burnish.memory.sessions.scripts import Scripts, refusal, session_keys
from burnish.memory.sessions.snapshot import check_exists
from burnish.memory.sessions.steps import parse_cursor

DELETION_GRACE = 24 * 3600.0
MAX_DELETION_GRACE = 30 * 24 * 3600.0
UNDOABLE = ("pin", "unpin", "delete", "compact", "switch")


class Changes:
    """Of the sessions in one Redis. The tenant comes from the caller's key."""

    def __init__(self, redis: Any, scripts: Scripts, clock: Callable[[], float] = time.time):
        self._redis = redis
        self._scripts = scripts
        self._clock = clock

    async def pin(self, tenant: str, session: str, cursor: str | int, pinned: bool = True) -> int:
        """Keep a step in every view, or stop doing so. The session's version then."""
        keys = session_keys(tenant, session)
        kind = "pin" if pinned else "unpin"
        reply = await self._change(keys, kind, parse_cursor(cursor), "user")
        return reply[0]

    async def pins(self, tenant: str, session: str) -> list[dict[str, str]]:
        """The steps that every view keeps, by cursor, and why. Raises SessionNotFound, Forgotten."""
        keys = session_keys(tenant, session)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.hgetall(keys.pins)
            meta, pins = await pipe.execute()
        check_exists(meta, keys)
        return [{"cursor": place, "why": pins[place]} for place in sorted(pins, key=int)]

    async def delete(
        self, tenant: str, session: str, cursors: Iterable[str | int], grace: float = DELETION_GRACE
    ) -> dict[str, Any]:
        """Hide these steps, whole tool exchanges with them, and erase them after `grace` seconds.

        Raises BadStep for a grace out of range, BadCursor.
        """
        keys = session_keys(tenant, session)
        if not 0 < grace <= MAX_DELETION_GRACE:
            raise BadStep(
                f"grace is above 0 and at most {MAX_DELETION_GRACE:.0f} seconds;"
                " to erase at once, use forget"
            )
        places = [parse_cursor(cursor) for cursor in cursors]
        if not places:
            raise BadCursor("name at least one cursor")
        until = round(self._clock() + grace, 3)
        # Before the steps are hidden, so that none is hidden and never erased; and after,
        # in case a sweep of this session ended in between.
        await self._redis.zadd(DUE, {due_member(keys): until}, lt=True)
        reply = await self._change(keys, "delete", until, *places)
        await self._redis.zadd(DUE, {due_member(keys): until}, lt=True)
        steps = sorted(int(seq) for seq in reply[1:])
        return {"steps": [str(seq) for seq in steps], "until": until, "version": reply[0]}

    async def undo(self, tenant: str, session: str, version: int | None = None) -> dict[str, Any]:
        """Take back the change made at `version`; by default the newest not yet taken back.

        Raises UnknownPlan when there is none, Stale when a later change stands in its way,
        Forgotten when a deletion has become final.
        """
        keys = session_keys(tenant, session)
        changes = await self._entries(keys)
        taken_back = {change["undoes"] for change in changes}
        for change in changes:
            made = change["version"]
            named = made == version if version is not None else not change["undoes"]
            if named and str(made) not in taken_back and change["kind"] in UNDOABLE:
                return {"undone": _public(change), "version": await self._undo(keys, change)}
        which = "that is not undone yet" if version is None else f"at version {version} to undo"
        raise UnknownPlan(f"session {session!r} has no change {which}")

    async def history(self, tenant: str, session: str, limit: int = 100) -> list[dict[str, Any]]:
        """The changes, newest first. Appends are in the log, with the version each made."""
        keys = session_keys(tenant, session)
        check_exists(await self._redis.hgetall(keys.meta), keys)
        return [_public(change) for change in await self._entries(keys, limit)]

    async def sweep(self, limit: int = 100) -> int:
        """Erase what was deleted and is due, in any session; how many steps. Call it regularly."""
        now = self._clock()
        due = await self._redis.zrangebyscore(DUE, "-inf", now, start=0, num=limit)
        erased = 0
        for member in due:
            keys = of_due_member(member)
            reply = await self._scripts.forget_steps(
                keys=keys.fixed, args=[keys.postings, f"{now:.3f}", "1"]
            )
            if reply[0] not in ("ok", "forgotten", "unknown"):
                raise refusal(reply[0], str(reply[1]), keys.session)
            erased += int(reply[1]) if reply[0] == "ok" else 0
            await self._redis.zrem(DUE, member)
            waiting = await self._redis.hvals(keys.deleted)
            if waiting:
                await self._redis.zadd(DUE, {member: min(map(float, waiting))}, lt=True)
        return erased

    async def _undo(self, keys: SessionKeys, change: dict[str, Any]) -> int:
        made, steps = change["version"], [s for s in change.get("steps", "").split(",") if s]
        match change["kind"]:
            case "pin":
                return (await self._change(keys, "unpin", *steps, "user", undoes=made))[0]
            case "unpin":
                reason = change["reason"]
                return (await self._change(keys, "pin", *steps, reason, undoes=made))[0]
            case "delete":
                return (await self._change(keys, "restore", *steps, undoes=made))[0]
            case _:
                reply = await self._change(
                    keys, "switch", change["to"], change["from"], undoes=made
                )
                return reply[0]

    async def _entries(self, keys: SessionKeys, limit: int | None = None) -> list[dict[str, Any]]:
        page = await self._redis.xrevrange(keys.changes, count=limit)
        return [{**fields, "version": int(entry.partition("-")[0])} for entry, fields in page]

    async def _change(
        self, keys: SessionKeys, kind: str, *args: Any, undoes: int | str = ""
    ) -> list[Any]:
        return list(await self._scripts.changed(keys, self._clock(), kind, *args, undoes=undoes))


def _public(change: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "version": change["version"],
        "kind": change["kind"],
        "at": float(change["at"]),
    }
    if change["kind"] == "forget":
        return {**shown, "erased": int(change["steps"])}
    if change.get("undoes"):
        shown["undoes"] = int(change["undoes"])
    if "steps" in change:
        shown["cursors"] = sorted(change["steps"].split(","), key=int)
    if "from" in change:
        shown |= {"from": change["from"] or None, "to": change["to"] or None}
    return shown
