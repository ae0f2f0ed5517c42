"""Compaction plans in Redis: headers, decisions on units, sampling traces and summary nodes.

The newest KEPT_PLANS plans of a session are kept, with the nodes they use (change.lua). Left out:
making a plan (session_compaction.py) and what a header holds (sessions/plan.py).
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.memory.compaction.policies.learned import DecisionTrace
from burnish.memory.compaction.policy_runner import PolicyOutcome
from burnish.memory.errors import UnknownPlan
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.plan import (
    CompactionPlan,
    UnitDecision,
    pack_decisions,
    trace_of,
    unpack_decisions,
)
from burnish.memory.sessions.scripts import Scripts
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.views.view import SummaryNode
from redis import Redis

KEPT_PLANS = 64


class PlanStore:
    """Of the sessions in one Redis."""

    def __init__(self, redis: Any, scripts: Scripts) -> None:
        self._redis = redis
        self._scripts = scripts

    async def commit(
        self,
        keys: SessionKeys,
        snapshot: SessionSnapshot,
        plan: CompactionPlan,
        outcome: PolicyOutcome,
        now: float,
    ) -> tuple[CompactionPlan, int]:
        """Store the plan and put it in force: the plan with its id, and the session's version.

        Raises Stale when the view was changed after `snapshot`.
        """
        nodes = [part for node in outcome.nodes for part in (node.id, _node_json(node))]
        packed = await asyncio.to_thread(pack_decisions, outcome.unit_decisions, outcome.trace)
        header = plan.to_json()
        reply = await self._scripts.changed(
            keys, now, "compact", snapshot.version, header, packed, KEPT_PLANS, *nodes
        )
        return CompactionPlan.from_json(reply[1], header), reply[0]

    async def plans(self, keys: SessionKeys) -> list[CompactionPlan]:
        """Those that are kept, newest first."""
        rows = await self._redis.hgetall(keys.plans)
        found = [CompactionPlan.from_json(name, row) for name, row in rows.items()]
        return sorted(found, key=lambda plan: -int(plan.id[1:]))

    async def unit_decisions(self, keys: SessionKeys, plan: str) -> list[UnitDecision]:
        """What the plan decided on every unit, in the order of the log. Raises UnknownPlan."""
        packed = await self._redis.hget(keys.unit_decisions, plan)
        if packed is None:
            raise UnknownPlan(f"no plan {plan!r} (any more) in session {keys.session!r}")
        return await asyncio.to_thread(unpack_decisions, packed)

    async def nodes(
        self, keys: SessionKeys, names: Sequence[str] | None = None
    ) -> Mapping[str, SummaryNode]:
        """Summary nodes by id; all there are, or these."""
        if names is None:
            rows = await self._redis.hgetall(keys.nodes)
        elif names:
            rows = dict(zip(names, await self._redis.hmget(keys.nodes, names), strict=True))
        else:
            rows = {}
        return {name: _node(name, json.loads(row)) for name, row in rows.items() if row}


def load_trace(client: Redis, tenant: str, session: str, plan: str) -> DecisionTrace | None:
    """How the learned policy sampled this plan, for the learner, whose client is synchronous.

    None if it was not sampled or is not kept any more. Raises ValueError for other features.
    """
    packed: Any = client.hget(SessionKeys(tenant, session).unit_decisions, plan)
    if packed is None:
        return None
    trace = trace_of(packed.decode() if isinstance(packed, bytes) else packed)
    return DecisionTrace.unpack(trace) if trace else None


def _node_json(node: SummaryNode) -> str:
    facts = {"sources": node.sources, "text": node.text, "tokens": node.tokens}
    return json.dumps({**facts, "made_by": node.made_by}, ensure_ascii=False)


def _node(name: str, row: Mapping[str, Any]) -> SummaryNode:
    return SummaryNode(name, tuple(row["sources"]), row["text"], row["tokens"], row["made_by"])
