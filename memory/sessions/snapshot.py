"""A snapshot of a session at one version: the log's length, pins, deletions, the plan in force.

`current_snapshot` reads it, `snapshot_at` works out that of an earlier version by walking the changes backwards. What
was erased since does not come back: an earlier snapshot is without it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.memory.errors import Forgotten, SessionNotFound, Stale, UnknownPlan
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.plan import CompactionPlan
from burnish.memory.sessions.steps import from_entry


@dataclass(frozen=True)
class SessionSnapshot:
    """What a view depends on besides the steps themselves."""

    version: int
    seq: int  # the newest step's place
    tokens: int  # of the whole log
    floor: tuple[int, ...]  # pinned steps and open tool calls
    hidden: frozenset[int]  # deleted, for as long as that can be undone
    plan: CompactionPlan | None

    @property
    def used(self) -> int:
        """Tokens of the view without a budget: what the plan shows, and all that came after."""
        return self.tokens if self.plan is None else self.plan.after + self.grown

    @property
    def grown(self) -> int:
        """Tokens appended since the plan in force was made."""
        return self.tokens - (self.plan.log_tokens if self.plan else 0)


async def current_snapshot(redis: Any, keys: SessionKeys) -> SessionSnapshot:
    """The session as it is. Raises SessionNotFound, Forgotten."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.meta)
        pipe.hkeys(keys.pins)
        pipe.hvals(keys.open)
        pipe.hkeys(keys.deleted)
        meta, pins, waiting, deleted = await pipe.execute()
    check_exists(meta, keys)
    hidden = frozenset(map(int, deleted))
    return SessionSnapshot(
        version=int(meta["version"]),
        seq=int(meta["seq"]),
        tokens=int(meta["tokens"]),
        floor=_floor(map(int, [*pins, *waiting]), hidden),
        hidden=hidden,
        plan=await load_plan(redis, keys, meta.get("plan", "")),
    )


async def snapshot_at(redis: Any, keys: SessionKeys, version: int) -> SessionSnapshot:
    """The session at that version. Raises Stale when it is no version the session had."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.meta)
        pipe.hkeys(keys.pins)
        pipe.hgetall(keys.groups)
        pipe.hvals(keys.open)
        pipe.hkeys(keys.deleted)
        pipe.xrevrange(keys.changes, "+", f"{version + 1}-0")
        meta, pins, groups, waiting, deleted, later = await pipe.execute()
    check_exists(meta, keys)
    if not 0 < version <= int(meta["version"]):
        raise Stale(f"the session has versions 1 to {meta['version']}, not {version}")
    pinned, hidden, plan = set(map(int, pins)), set(map(int, deleted)), meta.get("plan", "")
    for _, change in later:
        named = change.get("steps", "") if change["kind"] != "forget" else ""
        steps = {int(seq) for seq in named.split(",") if seq}
        match change["kind"]:
            case "pin":
                pinned -= steps
            case "unpin":
                pinned |= steps
            case "delete":
                hidden -= steps
            case "restore":
                hidden |= steps
            case "compact" | "switch":
                plan = change["from"]
            case _:
                pass  # what was forgotten stays forgotten
    seq = await _last_step(redis, keys, version, int(meta["seq"]))
    open_then = set(map(int, waiting))
    for root, members in groups.items():
        if int(members.rpartition(",")[2]) > seq:
            open_then.add(int(root))
    floor = [place for place in [*pinned, *open_then] if place <= seq]
    return SessionSnapshot(
        version=version,
        seq=seq,
        tokens=int(meta["tokens"]),
        floor=_floor(floor, hidden),
        hidden=frozenset(hidden),
        plan=await load_plan(redis, keys, plan),
    )


async def load_plan(redis: Any, keys: SessionKeys, plan: str) -> CompactionPlan | None:
    """The plan of that id, None for "". Raises UnknownPlan for one too old to be kept."""
    if not plan:
        return None
    header = await redis.hget(keys.plans, plan)
    if header is None:
        raise UnknownPlan(f"no plan {plan!r} (any more) in session {keys.session!r}")
    return CompactionPlan.from_json(plan, header)


def check_exists(meta: Mapping[str, str], keys: SessionKeys) -> None:
    if not meta:
        raise SessionNotFound(f"no session {keys.session!r}: append a step to begin it")
    if "forgotten_at" in meta:
        raise Forgotten(f"session {keys.session!r} was forgotten: start one with another id")


def _floor(places: Iterable[int], hidden: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(places) - set(hidden)))


async def _last_step(redis: Any, keys: SessionKeys, version: int, newest: int) -> int:
    """The newest step that was there at `version`: by bisection, since versions only grow."""
    low, high = 0, newest
    while low < high:
        middle = (low + high + 1) // 2
        page = await redis.xrevrange(keys.log, f"{middle}", "-", 1)
        step = from_entry(*page[0]) if page else None
        if step is None or step.version <= version:
            low = middle
        else:
            high = step.seq - 1
    return low
