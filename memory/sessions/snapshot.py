"""A snapshot of a session at one version: the log's length, pins, deletions, the plan in force.

`current_snapshot` reads it, `snapshot_at` works out that of an earlier version by walking the changes backwards. What
was erased since does not come back: an earlier snapshot is without it.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.memory.errors import Forgotten, SessionNotFound, Stale, UnknownPlan
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.plan import CompactionPlan
from burnish.memory.sessions.steps import RULE, from_entry


@dataclass(frozen=True)
class SessionSnapshot:
    """What a view depends on besides the steps themselves."""

    version: int
    seq: int  # the newest step's place
    asked: int  # the newest user step's, 0 where it is not known
    steps: int  # in the log, those hidden included
    tokens: int  # of the whole log
    floor: tuple[int, ...]  # pinned steps
    rules: tuple[int, ...]  # steps that are pinned because a person states a rule in them
    hidden: frozenset[int]  # deleted, for as long as that can be undone
    plan: CompactionPlan | None
    created: float = 0.0  # when the session began, in seconds since 1970
    current: bool = False  # the session as it is, not as it was

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
        pipe.hgetall(keys.pins)
        pipe.hkeys(keys.deleted)
        meta, pins, deleted = await pipe.execute()
    check_exists(meta, keys)
    hidden = frozenset(map(int, deleted))
    return SessionSnapshot(
        version=int(meta["version"]),
        seq=int(meta["seq"]),
        asked=int(meta.get("asked", 0)),
        steps=int(meta["docs"]),
        tokens=int(meta["tokens"]),
        floor=_pinned(pins, hidden, rules=False),
        rules=_pinned(pins, hidden, rules=True),
        hidden=hidden,
        plan=await load_plan(redis, keys, meta.get("plan", "")),
        created=float(meta["created_at"]),
        current=True,
    )


async def snapshot_at(redis: Any, keys: SessionKeys, version: int) -> SessionSnapshot:
    """The session at that version. Raises Stale when it is no version the session had."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hgetall(keys.meta)
        pipe.hgetall(keys.pins)
        pipe.hkeys(keys.deleted)
        pipe.xrevrange(keys.changes, "+", f"{version + 1}-0")
        meta, pins, deleted, later = await pipe.execute()
    check_exists(meta, keys)
    if not 0 < version <= int(meta["version"]):
        raise Stale(f"the session has versions 1 to {meta['version']}, not {version}")
    hidden, plan = set(map(int, deleted)), meta.get("plan", "")
    for _, change in later:
        named = change.get("steps", "") if change["kind"] != "forget" else ""
        steps = [seq for seq in named.split(",") if seq]
        match change["kind"]:
            case "pin":
                pins = {seq: reason for seq, reason in pins.items() if seq not in steps}
            case "unpin":
                pins |= dict.fromkeys(steps, change["reason"])
            case "delete":
                hidden -= set(map(int, steps))
            case "restore":
                hidden |= set(map(int, steps))
            case "compact" | "switch":
                plan = change["from"]
            case _:
                pass  # what was forgotten stays forgotten
    seq = await _last_step(redis, keys, version, int(meta["seq"]))
    pins = {place: reason for place, reason in pins.items() if int(place) <= seq}
    asked, erased = int(meta.get("asked", 0)), int(meta["seq"]) - int(meta["docs"])
    return SessionSnapshot(
        version=version,
        seq=seq,
        asked=asked if asked <= seq else 0,
        steps=max(seq - erased, 0),
        tokens=int(meta["tokens"]),
        floor=_pinned(pins, hidden, rules=False),
        rules=_pinned(pins, hidden, rules=True),
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


def _pinned(pins: Mapping[str, str], hidden: Container[int], *, rules: bool) -> tuple[int, ...]:
    places = sorted(int(place) for place, reason in pins.items() if (reason == RULE) == rules)
    return tuple(place for place in places if place not in hidden)


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
