"""The default view of a session, built for every request.

It reads no more of the log than the budget can show: the floor, what the plan in force shows, the
newest steps, and what the query recalls of the rest. Left out: the view that a policy decides
(compaction/policy_view.py) and making plans (compaction/session_compaction.py).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.plan import CompactionPlan, ShownUnit
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import SummaryNode, View

CANDIDATES = 48  # steps the query may recall
FETCHED = 16  # of them at a time
TAIL_SHARE = 0.5  # of what the floor leaves, when not everything fits
PLAN_SHARE = 0.5  # of the same, for a plan that was made for a larger budget
RECALL_SHARE = 0.25  # of the budget, when everything else fits


async def default_view(
    log: SessionLog,
    snapshot: SessionSnapshot,
    nodes: Mapping[str, SummaryNode],
    budget: int,
    query: str | None,
    price: Price,
) -> View:
    """The view within `budget` tokens; `nodes` are the plan's summaries by id.

    Raises BudgetTooSmall.
    """
    view = View(budget, price)
    view.add_floor(await log.units(await log.steps(snapshot.floor)))
    planned = await _planned_units(log, snapshot.plan, price)
    summaries = _valid_nodes(nodes, snapshot)
    plan_tokens = sum(u.tokens for _, u in planned if u not in view)
    plan_tokens += sum(node.tokens for node in summaries)
    upto = snapshot.plan.upto if snapshot.plan else 0

    async with aclosing(log.newest_first(upto)) as newest:
        tail, fits = await _tail(newest, view, view.left - plan_tokens)
        query = query or default_query([*tail, *(unit for _, unit in reversed(planned))])
        if fits:
            _show_plan(view, planned, summaries, view.left)
            oldest = _show_tail(view, tail, view.left, snapshot.seq)
            for_recall = int(budget * RECALL_SHARE) if snapshot.plan else 0
        else:
            left = view.left
            _show_plan(view, planned, summaries, int(left * PLAN_SHARE))
            oldest = _show_tail(view, tail, int(left * TAIL_SHARE), snapshot.seq)
            for_recall = view.left
        if for_recall:
            shown = len(snapshot.floor) + len(planned)
            places = await log.places(query, CANDIDATES + min(shown, 200), oldest)
            hidden = [place for place in places if place not in view.seqs]
            view.recall(await _recalled_units(log, view, hidden, for_recall), for_recall)
        _show_tail(view, tail, view.left, snapshot.seq)
    return view


def default_query(newest_first: Sequence[Unit]) -> str:
    """What the next prompt is likely about: the newest user step, else the newest step."""
    user_steps = (s.content for u in newest_first for s in u.steps if s.role == "user")
    return next(user_steps, "") or (newest_first[0].text if newest_first else "")


async def _recalled_units(
    log: SessionLog, view: View, places: Sequence[int], available: int
) -> list[Unit]:
    """The units at these places, best first, until they would fill `available` tokens."""
    best: dict[int, Unit] = {}
    for start in range(0, len(places), FETCHED):
        if sum(unit.tokens for unit in best.values()) > available:
            break
        for unit in await log.units(await log.steps(places[start : start + FETCHED])):
            if unit not in view:
                best.setdefault(unit.first, unit)
    return list(best.values())


async def _planned_units(
    log: SessionLog, plan: CompactionPlan | None, price: Price
) -> list[tuple[ShownUnit, Unit]]:
    """What the plan shows, each unit in its form; those erased since are left out."""
    if plan is None:
        return []
    units = await log.units(await log.steps([shown.seq for shown in plan.shown]))
    by_first = {unit.first: unit for unit in units}
    return [
        (shown, form(by_first[shown.seq], shown.action, price))
        for shown in plan.shown
        if shown.seq in by_first
    ]


def _valid_nodes(nodes: Mapping[str, SummaryNode], snapshot: SessionSnapshot) -> list[SummaryNode]:
    """The plan's summaries, without those of steps that were deleted or erased since."""
    plan = snapshot.plan
    found = [nodes[name] for name in plan.nodes if name in nodes] if plan else []
    return [node for node in found if snapshot.hidden.isdisjoint(node.sources)]


async def _tail(newest: AsyncIterator[Unit], view: View, available: int) -> tuple[list[Unit], bool]:
    """The newest units until `available` tokens are full, and whether these are all."""
    tail: list[Unit] = []
    async for unit in newest:
        tail.append(unit)
        if unit not in view and (available := available - unit.tokens) < 0:
            return tail, False
    return tail, True


def _show_plan(
    view: View,
    planned: Sequence[tuple[ShownUnit, Unit]],
    summaries: Sequence[SummaryNode],
    available: int,
) -> None:
    """Summaries first, then units by score, as far as `available` tokens go."""
    for node in summaries:
        available -= view.add_node(node, available) or 0
    for _, unit in sorted(planned, key=lambda pair: -pair[0].score):
        available -= view.add(unit, available) or 0


def _show_tail(view: View, tail: Sequence[Unit], available: int, newest: int) -> int:
    """From the newest on, without a gap, while it fits; the place of the oldest shown."""
    oldest = newest + 1
    for unit in tail:
        cost = view.add(unit, available)
        if cost is None:
            break
        available -= cost
        oldest = min(oldest, unit.first)
    return oldest
