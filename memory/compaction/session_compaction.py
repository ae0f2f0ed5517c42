"""Compaction of stored sessions: deciding what their views show from now on, and reverting it.

A compaction reads the whole log, decides over raw steps (never over an earlier compaction's
result) and commits a plan by compare-and-set: refused when the view was changed meanwhile, then
read again. Steps appended meanwhile are no conflict, they become the tail. The log is not touched,
so everything a plan leaves out can be expanded, recalled and searched, and a plan can be reverted.
Left out: how plans are stored (plan_store.py).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.memory.compaction.plan_store import PlanStore
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.compaction.policy_view import run_policy
from burnish.memory.compaction.session_index import SessionIndexes
from burnish.memory.errors import BadCursor, Stale, UnknownPlan
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.plan import Action, CompactionPlan, UnitDecision
from burnish.memory.sessions.scripts import Scripts, session_keys
from burnish.memory.sessions.snapshot import SessionSnapshot, current_snapshot, load_plan
from burnish.memory.sessions.steps import parse_cursor
from burnish.memory.views.forms import Price
from burnish.memory.views.view import SummaryNode, View

ATTEMPTS = 3
REPORTED = 100  # units not kept whole, listed in the answer; `decisions` gives them all


@dataclass(frozen=True)
class CompactionResult:
    """What a compaction did, or would do; `plan.id` is "" for the latter."""

    plan: CompactionPlan
    version: int
    unit_decisions: Sequence[UnitDecision]
    nodes: Sequence[SummaryNode]
    dry_run: bool

    def public(self) -> dict[str, Any]:
        """As HTTP answers it."""
        left = [d.public() for d in self.unit_decisions if d.action is not Action.KEEP]
        return {
            **self.plan.public(),
            "plan": self.plan.id or None,
            "dry_run": self.dry_run,
            "version": self.version,
            "left": left[:REPORTED],
            "left_more": max(len(left) - REPORTED, 0),
            "nodes": [_public_node(node) for node in self.nodes],
        }


class SessionCompaction:
    """Of the sessions in one Redis. The tenant comes from the caller's key."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        runner: PolicyRunner,
        price: Price,
        indexes: SessionIndexes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._runner = runner
        self._price = price
        self._indexes = indexes
        self._clock = clock
        self.plan_store = PlanStore(redis, scripts)

    @property
    def policies(self) -> CompactionPolicies:
        return self._runner.policies

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
    ) -> CompactionResult:
        """Plan a view of at most `budget` tokens, and put it in force unless `dry_run`.

        With `version`, only if the session is still at that one. A plan that would gain less than
        `least_gain` of the view's tokens is not put in force; its id stays "".
        Raises BudgetTooSmall, UnknownPolicy, Stale, SessionNotFound, Forgotten.
        """
        keys = session_keys(tenant, session)
        self.policies.get(policy)
        for attempt in range(ATTEMPTS):
            began = time.monotonic()
            snapshot = await current_snapshot(self._redis, keys)
            if version is not None and snapshot.version != version:
                raise Stale(
                    f"the session is at version {snapshot.version}, not {version}:"
                    " look at it again, or leave version out"
                )
            view = View(budget, self._price)
            units = await self._indexes.units(self._redis, keys, self._scripts, snapshot)
            nodes = await self.plan_store.nodes(keys)
            outcome = await run_policy(units, snapshot, self._runner, nodes, view, query, policy)
            plan = self._plan(snapshot, outcome, view, trigger, time.monotonic() - began)
            decisions, gain = outcome.unit_decisions, plan.before - plan.after
            if dry_run or (least_gain is not None and gain < least_gain * plan.before):
                return CompactionResult(plan, snapshot.version, decisions, outcome.nodes, dry_run)
            try:
                stored, at = await self.plan_store.commit(
                    keys, snapshot, plan, outcome, self._clock()
                )
            except Stale:
                if version is not None or attempt == ATTEMPTS - 1:
                    raise
            else:
                return CompactionResult(stored, at, decisions, outcome.nodes, dry_run=False)
        raise AssertionError("the last attempt returns or raises")

    async def revert(self, tenant: str, session: str, to: str | None = None) -> dict[str, Any]:
        """Put the plan `to` back in force ("" for none); by default the one before this.

        Raises UnknownPlan when there is nothing to revert, or no such plan.
        """
        keys = session_keys(tenant, session)
        snapshot = await current_snapshot(self._redis, keys)
        if to is None:
            if snapshot.plan is None:
                raise UnknownPlan(f"session {session!r} is not compacted: nothing to revert")
            to = snapshot.plan.parent
        current = snapshot.plan.id if snapshot.plan else ""
        if to == current:
            return {"plan": current or None, "version": snapshot.version}
        reply = await self._scripts.changed(keys, self._clock(), "switch", current, to)
        return {"plan": to or None, "version": reply[0]}

    async def plans(self, tenant: str, session: str) -> list[dict[str, Any]]:
        """The plans that are kept, newest first."""
        keys = session_keys(tenant, session)
        snapshot = await current_snapshot(self._redis, keys)
        current = snapshot.plan.id if snapshot.plan else ""
        plans = await self.plan_store.plans(keys)
        return [{**plan.public(), "in_force": plan.id == current} for plan in plans]

    async def decisions(
        self, tenant: str, session: str, plan: str, after: str | int = 0, limit: int = 100
    ) -> dict[str, Any]:
        """The plan, and what it decided on each unit after the cursor `after`."""
        keys = session_keys(tenant, session)
        header = await load_plan(self._redis, keys, plan)
        decisions = await self.plan_store.unit_decisions(keys, plan)
        place = parse_cursor(after)
        page = [decision.public() for decision in decisions if decision.seq > place]
        return {**(header.public() if header else {}), "verdicts": page[:limit]}

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
        snapshot = await current_snapshot(self._redis, keys)
        log = SessionLog(self._redis, keys, self._scripts, hidden=snapshot.hidden)
        if node is not None:
            known = await self.plan_store.nodes(keys, [node])
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
        following = str(page[limit - 1]) if len(page) > limit else None
        return {"steps": [step.public() for step in steps], "next": following}

    def _plan(
        self,
        snapshot: SessionSnapshot,
        outcome: PolicyOutcome,
        view: View,
        trigger: str,
        seconds: float,
    ) -> CompactionPlan:
        counts: dict[str, int] = {}
        for decision in outcome.decisions:
            counts[decision.action.value] = counts.get(decision.action.value, 0) + 1
        return CompactionPlan(
            id="",
            parent=snapshot.plan.id if snapshot.plan else "",
            policy=outcome.policy,
            fell_back=outcome.fell_back,
            trigger=trigger,
            budget=view.budget,
            upto=snapshot.seq,
            log_tokens=snapshot.tokens,
            before=snapshot.used,
            after=view.tokens + outcome.tokens,
            floor=view.tokens,
            created_at=self._clock(),
            seconds=round(seconds, 4),
            counts=counts,
            shown=outcome.shown,
            nodes=tuple(node.id for node in outcome.nodes),
        )


def _public_node(node: SummaryNode) -> dict[str, Any]:
    return {
        "node": node.id,
        "steps": len(node.sources),
        "first": str(node.sources[0]),
        "last": str(node.sources[-1]),
        "tokens": node.tokens,
        "made_by": node.made_by,
        "text": node.text,
    }
