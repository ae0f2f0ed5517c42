"""The view of a session that a compaction policy decides; unlike the default view it reads every
step."""

from collections.abc import Mapping, Sequence

from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.units import Unit, distinct
from burnish.memory.views.always_shown import show_always
from burnish.memory.views.default_view import NEWEST, default_query, show_floor
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
) -> tuple[View, PolicyOutcome, int]:
    """The view, what the policy decided, and how many rules found no room. Linear in the log.

    Raises BudgetTooSmall, UnknownPolicy.
    """
    view = View(budget, price)
    units = await log.all_units()
    newest_first = sorted(units[-NEWEST:], key=lambda unit: -unit.last)
    missing = await show_floor(view, log, snapshot, newest_first)
    outcome = await _decided(runner, nodes, view, units, query, policy)
    shown = {s.seq: s.action for s in outcome.shown}
    for candidate in outcome.task.candidates:
        if candidate.unit.first in shown:
            view.add(form(candidate.unit, shown[candidate.unit.first], price), view.left)
    for node in outcome.nodes:
        view.add_node(node, view.left)
    view.open_with_user(snapshot.steps - len(snapshot.hidden))
    return view, outcome, missing


async def run_policy(
    log: SessionLog,
    snapshot: SessionSnapshot,
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    view: View,
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    """Ask the policy about all but floor and rules, which are put into `view`: the plan to be made
    has to decide on the newest exchange too, which will not be the newest for long."""
    units = await log.all_units()
    by_place = {step.seq: unit for unit in units for step in unit.steps}
    floor, rules = (
        distinct(by_place[place] for place in places if place in by_place)
        for places in (snapshot.floor, snapshot.rules)
    )
    show_always(view, floor, rules, ())
    return await _decided(runner, nodes, view, units, query, policy)


async def _decided(
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    view: View,
    units: Sequence[Unit],
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    rest = [unit for unit in units if not view.shows_whole(unit)]
    query = query or default_query(units[::-1])
    return await runner.decide(policy, rest, query, view.left, nodes)
