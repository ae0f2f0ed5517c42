"""The default view of a session, built for every request.

It reads no more of the log than the budget can show: what is always shown, what the plan in force
shows, the newest steps, what the query recalls of the rest, and then the newest that is not shown yet
until the budget is full. Left out: the view that a policy decides (compaction/policy_view.py) and
making plans (compaction/session_compaction.py).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.plan import CompactionPlan, ShownUnit
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.units import Unit, distinct
from burnish.memory.views.always_shown import exchange_of, show_always
from burnish.memory.views.forms import Price, cost, form
from burnish.memory.views.view import SummaryNode, View

CANDIDATES = 48  # steps the query may recall
FETCHED = 16  # of them at a time
NEWEST = 16  # units among which the newest exchange is looked for
TAIL_SHARE = 0.5  # of what is left, when not everything fits
PLAN_SHARE = 0.5  # of the same, for a plan that was made for a larger budget
RECALL_SHARE = 0.5  # of what is left, when everything else fits
LONG = 2  # budgets of newer steps: not all fit, which need not be found out by reading them
SPARE = 0.04  # of the budget: with less than this left, a view is full
MISSES = 16  # units too large for what is left, before the newest of them is cut


async def default_view(
    log: SessionLog,
    snapshot: SessionSnapshot,
    nodes: Mapping[str, SummaryNode],
    budget: int,
    query: str | None,
    price: Price,
) -> tuple[View, int]:
    """The view within `budget` tokens, and how many rules found no room; `nodes` are the plan's
    summaries by id. Raises BudgetTooSmall."""
    view = View(budget, price)
    upto = snapshot.plan.upto if snapshot.plan else 0
    async with aclosing(log.newest_first()) as walk:
        head = await _first_of(walk, NEWEST)
        missing = await show_floor(view, log, snapshot, head)
        planned = await _planned_units(log, snapshot.plan, price)
        summaries = _valid_nodes(nodes, snapshot)
        plan_tokens = sum(u.tokens for _, u in planned if u not in view)
        plan_tokens += sum(node.tokens for node in summaries)

        read = list(head)
        # The newest step is the tail's, and shown already.
        newest = min(cost(head[0], price), view.left) if head else 0
        share = max(int((view.left + newest) * TAIL_SHARE) - newest, 0)
        long = not snapshot.hidden and snapshot.grown > LONG * budget
        tail, fits = await _tail(read, walk, view, upto, share if long else view.left - plan_tokens)
        query = query or default_query([*tail, *(unit for _, unit in reversed(planned))])
        for_plan, for_tail = view.left, view.left
        if not fits:
            for_plan, for_tail = int(view.left * PLAN_SHARE), share
        _show_plan(view, planned, summaries, for_plan)
        oldest = _show_tail(view, tail, for_tail, snapshot.seq)
        for_recall = view.left
        if fits:
            for_recall = int(view.left * RECALL_SHARE) if snapshot.plan else 0
        if for_recall:
            shown = len(snapshot.floor) + len(snapshot.rules) + len(planned)
            places = await log.places(query, CANDIDATES + min(shown, 200), oldest)
            seen = view.seqs
            hidden = [place for place in places if place not in seen]
            view.recall(await _recalled_units(log, view, hidden, for_recall), for_recall)
        too_large = await _fill(view, read, walk)
    _fill_cut(view, too_large)
    view.open_with_user(snapshot.steps - len(snapshot.hidden))
    # What opening with a user message took out leaves room for more of those.
    _fill_cut(view, [unit for unit in read if unit.steps[0].role == "user"])
    if _has_room(view):
        view.tell_missing(snapshot.steps - len(snapshot.hidden))
    for unit in too_large:
        if _has_room(view):
            view.trade_for(unit)
    return view, missing


async def show_floor(
    view: View, log: SessionLog, snapshot: SessionSnapshot, newest_first: Sequence[Unit]
) -> int:
    """Show what every view shows; how many rules found no room. Raises BudgetTooSmall."""
    by_place = {step.seq: unit for unit in newest_first for step in unit.steps}
    places = {*snapshot.floor, *snapshot.rules, snapshot.asked} - {0, *by_place}
    units = await log.units(await log.steps(sorted(places)))
    by_place |= {step.seq: unit for unit in units for step in unit.steps}
    floor, rules, asked = (
        distinct(by_place[place] for place in group if place in by_place)
        for group in (snapshot.floor, snapshot.rules, [snapshot.asked])
    )
    return show_always(view, floor, rules, exchange_of(newest_first, asked))


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


async def _first_of(walk: AsyncIterator[Unit], limit: int) -> list[Unit]:
    first: list[Unit] = []
    while len(first) < limit and (unit := await anext(walk, None)) is not None:
        first.append(unit)
    return first


async def _tail(
    read: list[Unit], walk: AsyncIterator[Unit], view: View, upto: int, available: int
) -> tuple[list[Unit], bool]:
    """The newest units after `upto`, until `available` tokens are full, and whether these are all.
    `read` is what the walk gave so far, and grows with it."""
    tail: list[Unit] = []
    place = 0
    while True:
        if place == len(read):
            if (unit := await anext(walk, None)) is None:
                return tail, True
            read.append(unit)
        unit, place = read[place], place + 1
        if unit.last <= upto:
            return tail, True
        tail.append(unit)
        if unit not in view and (available := available - unit.tokens) < 0:
            return tail, False


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
        paid = view.add(unit, available)
        if paid is None:
            break
        available -= paid
        oldest = min(oldest, unit.first)
    return oldest


async def _fill(view: View, read: Sequence[Unit], walk: AsyncIterator[Unit]) -> list[Unit]:
    """Show the newest of what is not shown, or not shown whole, until the view is full; what was
    too large for that."""
    too_large: list[Unit] = []
    place = 0
    while _has_room(view) and len(too_large) < MISSES:
        if place < len(read):
            unit = read[place]
        elif (unit := await anext(walk, None)) is None:
            break
        place += 1
        view.add(unit, view.left)
        if not view.shows_whole(unit):
            too_large.append(unit)
    return too_large


def _fill_cut(view: View, units: Sequence[Unit]) -> None:
    for unit in units:
        if _has_room(view) and not view.shows_whole(unit):
            view.add_cut(unit)


def _has_room(view: View) -> bool:
    return view.left > int(view.budget * SPARE)
