"""The view of a session that a compaction policy decides. Unlike the usual view it reads every step."""

from collections.abc import Mapping

from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.views.context import newest_question
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import Node, View


async def decided_view(
    log: SessionLog,
    moment: SessionSnapshot,
    decider: PolicyRunner,
    nodes: Mapping[str, Node],
    budget: int,
    query: str | None,
    policy: str,
    price: Price,
) -> View:
    """Raises BudgetTooSmall, UnknownPolicy. Linear in the log."""
    view = View(budget, price)
    decided = await decide(log, moment, decider, nodes, view, query, policy)
    shown = {s.seq: s.verdict for s in decided.shown}
    for candidate in decided.task.candidates:
        if candidate.unit.first in shown:
            view.add(form(candidate.unit, shown[candidate.unit.first], price), view.left)
    for node in decided.nodes:
        view.add_node(node, view.left)
    return view


async def decide(
    log: SessionLog,
    moment: SessionSnapshot,
    decider: PolicyRunner,
    nodes: Mapping[str, Node],
    view: View,
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    """Ask the policy about everything but the floor, which is put into `view`."""
    units = await log.whole()
    pinned = set(moment.floor)
    view.add_floor(u for u in units if any(step.seq in pinned for step in u.steps))
    rest = [unit for unit in units if unit not in view]
    about = query or newest_question(units[::-1])
    return await decider.decide(policy, rest, about, view.left, nodes, log.vectors)
