"""Compaction: deciding what the view of a long session shows from now on, and taking it back.

A compaction reads the whole log, decides over raw steps (never over an earlier compaction's
result) and commits a plan by compare-and-set: refused when the view was changed meanwhile, then
read again. Steps appended meanwhile are no conflict, they become the tail. The log is not touched,
so everything a plan leaves out can be expanded, recalled and searched, and a plan can be reverted.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.memory.compaction.decided_view import decide
from burnish.memory.compaction.policies import Policies
from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.errors import BadCursor, Stale, UnknownPlan
from burnish.memory.sessions import snapshot as moments
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.plan import SHOWN, Plan, Ruling, pack_rulings, trace_of, unpack_rulings
from burnish.memory.sessions.scripts import Scripts, session_keys
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.steps import parse_cursor
from burnish.memory.views.forms import Price
from burnish.memory.views.view import Node, View

ATTEMPTS = 3
KEPT_PLANS = 64
REPORTED = 100  # units that leave, listed in the answer; the rest by `verdicts`


@dataclass(frozen=True)
class Compacted:
    """What a compaction did, or would do; `plan.id` is "" for the latter."""

    plan: Plan
    version: int
    rulings: Sequence[Ruling]
    nodes: Sequence[Node]
    dry_run: bool

    def public(self) -> dict[str, Any]:
        left = [r.public() for r in self.rulings if r.verdict not in SHOWN[:1]]
        return {
            **self.plan.public(),
            "plan": self.plan.id or None,
            "dry_run": self.dry_run,
            "version": self.version,
            "left": left[:REPORTED],
            "left_more": max(len(left) - REPORTED, 0),
            "nodes": [public_node(node) for node in self.nodes],
        }


class Compaction:
    """Of the sessions in one Redis. The tenant comes from the caller's key."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        decider: PolicyRunner,
        price: Price,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._decider = decider
        self._price = price
        self._clock = clock

    async def compact(
        self,
        tenant: str,
        session: str,
        policy: str,
        budget: int,
        *,
        query: str | None = None,
        dry_run: bool = False,
        version: int | None = None,
        trigger: str = "asked",
        least_gain: float | None = None,
    ) -> Compacted:
        """Plan a view of at most `budget` tokens, and put it in force unless `dry_run`.

        With `version`, only if the session is still at that one. A plan that would gain less than
        `least_gain` of the view's tokens is not put in force; its id stays "".
        Raises BudgetTooSmall, UnknownPolicy, Stale, SessionNotFound, Forgotten.
        """
        keys = session_keys(tenant, session)
        self.policies.get(policy)
        for attempt in range(ATTEMPTS):
            began = time.monotonic()
            moment = await moments.now(self._redis, keys)
            if version is not None and moment.version != version:
                raise Stale(
                    f"the session is at version {moment.version}, not {version}:"
                    " look at it again, or leave version out"
                )
            view = View(budget, self._price)
            log = SessionLog(self._redis, keys, self._scripts, moment.seq, moment.hidden)
            nodes = await self.nodes(keys)
            decided = await decide(log, moment, self._decider, nodes, view, query, policy)
            plan = self._plan(moment, decided, view, trigger, time.monotonic() - began)
            gain = plan.before - plan.after
            if dry_run or (least_gain is not None and gain < least_gain * plan.before):
                return Compacted(plan, moment.version, decided.rulings, decided.nodes, dry_run)
            try:
                return await self._commit(keys, moment, plan, decided)
            except Stale:
                if version is not None or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    @property
    def policies(self) -> Policies:
        return self._decider.policies

    async def revert(self, tenant: str, session: str, to: str | None = None) -> dict[str, Any]:
        """Put the plan `to` back in force ("" for none); by default the one before this.

        Raises UnknownPlan when there is nothing to revert, or no such plan.
        """
        keys = session_keys(tenant, session)
        moment = await moments.now(self._redis, keys)
        if to is None:
            if moment.plan is None:
                raise UnknownPlan(f"session {session!r} is not compacted: nothing to revert")
            to = moment.plan.parent
        current = moment.plan.id if moment.plan else ""
        if to == current:
            return {"plan": current or None, "version": moment.version}
        reply = await self._scripts.changed(keys, self._clock(), "switch", current, to)
        return {"plan": to or None, "version": reply[0]}

    async def plans(self, tenant: str, session: str) -> list[dict[str, Any]]:
        """The plans that are kept, newest first."""
        keys = session_keys(tenant, session)
        moment = await moments.now(self._redis, keys)
        rows = await self._redis.hgetall(keys.plans)
        found = [Plan.from_json(name, row) for name, row in rows.items()]
        found.sort(key=lambda plan: -int(plan.id[1:]))
        current = moment.plan.id if moment.plan else ""
        return [{**plan.public(), "in_force": plan.id == current} for plan in found]

    async def verdicts(
        self, tenant: str, session: str, plan: str, after: str | int = 0, limit: int = 100
    ) -> dict[str, Any]:
        """The plan, and its verdict on every unit behind the cursor `after`."""
        keys = session_keys(tenant, session)
        header = await moments.plan_of(self._redis, keys, plan)
        rulings = await self.rulings(keys, plan)
        place = parse_cursor(after)
        page = [ruling.public() for ruling in rulings if ruling.seq > place]
        return {**(header.public() if header else {}), "verdicts": page[:limit]}

    async def rulings(self, keys: SessionKeys, plan: str) -> list[Ruling]:
        packed = await self._redis.hget(keys.verdicts, plan)
        if packed is None:
            raise UnknownPlan(f"no plan {plan!r} (any more) in session {keys.session!r}")
        return await asyncio.to_thread(unpack_rulings, packed)

    async def trace(self, tenant: str, session: str, plan: str) -> str:
        """How a learned policy drew this plan; "" if it was not drawn. Raises UnknownPlan."""
        keys = session_keys(tenant, session)
        packed = await self._redis.hget(keys.verdicts, plan)
        if packed is None:
            raise UnknownPlan(f"no plan {plan!r} (any more) in session {session!r}")
        return trace_of(packed)

    async def expand(
        self,
        tenant: str,
        session: str,
        *,
        node: str | None = None,
        cursors: Sequence[str | int] = (),
        after: str | int = 0,
        limit: int = 100,
    ) -> dict[str, Any]:
        """The raw steps behind a summary node, or at these cursors, each with its tool exchange.

        Raises UnknownPlan, BadCursor.
        """
        keys = session_keys(tenant, session)
        moment = await moments.now(self._redis, keys)
        log = SessionLog(self._redis, keys, self._scripts, hidden=moment.hidden)
        if node is not None:
            known = await self.nodes(keys, [node])
            if node not in known:
                raise UnknownPlan(f"no summary node {node!r} (any more) in session {session!r}")
            places = list(known[node].sources)
        else:
            places = sorted({parse_cursor(cursor) for cursor in cursors})
            found = await log.steps(places)
            missing = set(places) - {step.seq for step in found}
            if missing or not places:
                raise BadCursor(f"no step {min(missing, default=0)} in session {session!r}")
            units = await log.units(found)
            places = sorted({step.seq for unit in units for step in unit.steps})
        start = parse_cursor(after)
        page = [seq for seq in places if seq > start][: limit + 1]
        steps = await log.steps(page[:limit])
        more = str(page[limit - 1]) if len(page) > limit else None
        return {"steps": [step.public() for step in steps], "next": more}

    async def nodes(
        self, keys: SessionKeys, names: Sequence[str] | None = None
    ) -> Mapping[str, Node]:
        """Summary nodes by id; all there are, or these."""
        if names is None:
            rows = await self._redis.hgetall(keys.nodes)
        elif names:
            rows = dict(zip(names, await self._redis.hmget(keys.nodes, names), strict=True))
        else:
            rows = {}
        return {name: _node(name, json.loads(row)) for name, row in rows.items() if row}

    def _plan(
        self,
        moment: SessionSnapshot,
        decided: PolicyOutcome,
        view: View,
        trigger: str,
        seconds: float,
    ) -> Plan:
        counts: dict[str, int] = {}
        for decision in decided.decisions:
            counts[decision.verdict.value] = counts.get(decision.verdict.value, 0) + 1
        return Plan(
            id="",
            parent=moment.plan.id if moment.plan else "",
            policy=decided.policy,
            fell_back=decided.fell_back,
            trigger=trigger,
            budget=view.budget,
            upto=moment.seq,
            log_tokens=moment.tokens,
            before=moment.used,
            after=view.tokens + decided.tokens,
            floor=view.tokens,
            created_at=self._clock(),
            seconds=round(seconds, 4),
            counts=counts,
            shown=decided.shown,
            nodes=tuple(node.id for node in decided.nodes),
        )

    async def _commit(
        self, keys: SessionKeys, moment: SessionSnapshot, plan: Plan, decided: PolicyOutcome
    ) -> Compacted:
        nodes = [part for node in decided.nodes for part in (node.id, _node_json(node))]
        packed = await asyncio.to_thread(pack_rulings, decided.rulings, decided.trace)
        reply = await self._scripts.changed(
            keys,
            self._clock(),
            "compact",
            moment.version,
            plan.to_json(),
            packed,
            KEPT_PLANS,
            *nodes,
        )
        stored = Plan.from_json(reply[1], plan.to_json())
        return Compacted(stored, reply[0], decided.rulings, decided.nodes, dry_run=False)


def public_node(node: Node) -> dict[str, Any]:
    return {
        "node": node.id,
        "steps": len(node.sources),
        "first": str(node.sources[0]),
        "last": str(node.sources[-1]),
        "tokens": node.tokens,
        "made_by": node.made_by,
        "text": node.text,
    }


def _node_json(node: Node) -> str:
    facts = {"sources": node.sources, "text": node.text, "tokens": node.tokens}
    return json.dumps({**facts, "made_by": node.made_by}, ensure_ascii=False)


def _node(name: str, row: Mapping[str, Any]) -> Node:
    return Node(name, tuple(row["sources"]), row["text"], row["tokens"], row["made_by"])
