"""The view of a session that a compaction policy decides; unlike the default view it reads every
step."""

from collections.abc import Mapping

from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.views.default_view import default_query
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import SummaryNode, View


async def policy_view(
    log: SessionLog,
    snapshot: SessionSnapshot,
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    budget: int,
    query: str | None,
    policy: str,
    price: Price,
) -> View:
    """Raises BudgetTooSmall, UnknownPolicy. Linear in the log."""
    view = View(budget, price)
    outcome = await run_policy(log, snapshot, runner, nodes, view, query, policy)
    shown = {s.seq: s.action for s in outcome.shown}
    for candidate in outcome.task.candidates:
        if candidate.unit.first in shown:
            view.add(form(candidate.unit, shown[candidate.unit.first], price), view.left)
    for node in outcome.nodes:
        view.add_node(node, view.left)
    return view


async def run_policy(
    log: SessionLog,
    snapshot: SessionSnapshot,
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    view: View,
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    """Ask the policy about everything but the floor, which is put into `view`."""
    units = await log.all_units()
    pinned = set(snapshot.floor)
    view.add_floor(u for u in units if any(step.seq in pinned for step in u.steps))
    rest = [unit for unit in units if unit not in view]
    query = query or default_query(units[::-1])
    return await runner.decide(policy, rest, query, view.left, nodes)
