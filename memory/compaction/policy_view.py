"""The view of a session that a compaction policy decides; unlike the default view it looks at every
step."""

from collections.abc import Mapping
from itertools import islice

from burnish.memory.compaction.policy_runner import PolicyOutcome, PolicyRunner
from burnish.memory.compaction.session_index import SessionUnits
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.views.always_shown import exchange_of, show_always
from burnish.memory.views.default_view import NEWEST, default_query
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import SummaryNode, View


async def policy_view(
    units: SessionUnits,
    snapshot: SessionSnapshot,
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    budget: int,
    query: str | None,
    policy: str,
    price: Price,
) -> tuple[View, PolicyOutcome, int]:
    """The view, what the policy decided, and how many rules found no room.

    Raises BudgetTooSmall, UnknownPolicy.
    """
    view = View(budget, price)
    newest = sorted(islice(units.newest_first(), NEWEST), key=lambda unit: -unit.last)
    floor, rules = units.holding(snapshot.floor), units.holding(snapshot.rules)
    asked = units.holding({snapshot.asked} - {0, *snapshot.hidden})
    missing = show_always(view, floor, rules, exchange_of(newest, asked))
    outcome = await _decided(runner, nodes, view, units, query, policy)
    for candidate, action in outcome.shown_actions:
        view.add(form(candidate.unit, action, price), view.left)
    for node in outcome.nodes:
        view.add_node(node, view.left)
    view.open_with_user(snapshot.steps - len(snapshot.hidden))
    return view, outcome, missing


async def run_policy(
    units: SessionUnits,
    snapshot: SessionSnapshot,
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    view: View,
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    """Ask the policy about all but floor and rules, which are put into `view`: the plan to be made
    has to decide on the newest exchange too, which will not be the newest for long."""
    show_always(view, units.holding(snapshot.floor), units.holding(snapshot.rules), ())
    return await _decided(runner, nodes, view, units, query, policy)


async def _decided(
    runner: PolicyRunner,
    nodes: Mapping[str, SummaryNode],
    view: View,
    units: SessionUnits,
    query: str | None,
    policy: str,
) -> PolicyOutcome:
    query = query or default_query(units.asked())
    return await runner.decide(policy, units.without(view), query, view.left, nodes)
