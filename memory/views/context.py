"""The usual view of a session, the one of every turn.

It reads no more of the log than the budget can show: the floor, what the plan in force shows, the
newest steps, and what the query recalls of the rest. Left out: the view that a policy decides
(compaction/decided_view.py) and making plans (compaction/compaction.py).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

from burnish.memory.sessions.log import SessionLog
from burnish.memory.sessions.plan import Plan, Shown
from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.sessions.units import Unit
from burnish.memory.views.forms import Price, form
from burnish.memory.views.view import Node, View

CANDIDATES = 48
FETCHED = 16  # of them at a time
TAIL_SHARE = 0.5  # of what the floor leaves, when not everything fits
PLAN_SHARE = 0.5  # of the same, for what a plan made for more room shows
RECALL_SHARE = 0.25  # of the budget, when everything else fits


async def usual_view(
    log: SessionLog,
    moment: SessionSnapshot,
    nodes: Mapping[str, Node],
    budget: int,
    query: str | None,
    price: Price,
) -> View:
    """Raises BudgetTooSmall."""
    view = View(budget, price)
    view.add_floor(await log.units(await log.steps(moment.floor)))
    kept = await _kept(log, moment.plan, price)
    told = _told(nodes, moment)
    planned = sum(u.tokens for _, u in kept if u not in view) + sum(node.tokens for node in told)
    upto = moment.plan.upto if moment.plan else 0

    async with aclosing(log.newest_first(upto)) as newest:
        tail, whole = await _tail(newest, view, view.left - planned)
        about = query or newest_question([*tail, *(unit for _, unit in reversed(kept))])
        if whole:
            _show_plan(view, kept, told, view.left)
            oldest = _show_tail(view, tail, view.left, moment.seq)
            room = int(budget * RECALL_SHARE) if moment.plan else 0
        else:
            left = view.left
            _show_plan(view, kept, told, int(left * PLAN_SHARE))
            oldest = _show_tail(view, tail, int(left * TAIL_SHARE), moment.seq)
            room = view.left
        if room:
            shown = len(moment.floor) + len(kept)
            places = await log.places(about, CANDIDATES + min(shown, 200), oldest)
            view.recall(
                await _best(log, view, [p for p in places if p not in view.seqs], room), room
            )
        _show_tail(view, tail, view.left, moment.seq)
    return view


def newest_question(newest_first: Sequence[Unit]) -> str:
    """What the next prompt is likely about: the newest user step, else the newest step."""
    said = (s.content for u in newest_first for s in u.steps if s.role == "user")
    return next(said, "") or (newest_first[0].text if newest_first else "")


async def _best(log: SessionLog, view: View, places: Sequence[int], room: int) -> list[Unit]:
    """The units at these places, best first, as far as `room` goes."""
    best: dict[int, Unit] = {}
    for start in range(0, len(places), FETCHED):
        if sum(unit.tokens for unit in best.values()) > room:
            break
        for unit in await log.units(await log.steps(places[start : start + FETCHED])):
            if unit not in view:
                best.setdefault(unit.first, unit)
    return list(best.values())


async def _kept(log: SessionLog, plan: Plan | None, price: Price) -> list[tuple[Shown, Unit]]:
    if plan is None:
        return []
    units = await log.units(await log.steps([shown.seq for shown in plan.shown]))
    by_first = {unit.first: unit for unit in units}
    return [
        (shown, form(by_first[shown.seq], shown.verdict, price))
        for shown in plan.shown
        if shown.seq in by_first
    ]


def _told(nodes: Mapping[str, Node], moment: SessionSnapshot) -> list[Node]:
    """The plan's summaries, but for those that tell of what was deleted or erased since."""
    found = [nodes[name] for name in moment.plan.nodes if name in nodes] if moment.plan else []
    return [node for node in found if moment.hidden.isdisjoint(node.sources)]


async def _tail(newest: AsyncIterator[Unit], view: View, room: int) -> tuple[list[Unit], bool]:
    """The newest units until `room` is full, and whether these are all."""
    tail: list[Unit] = []
    async for unit in newest:
        tail.append(unit)
        if unit not in view and (room := room - unit.tokens) < 0:
            return tail, False
    return tail, True


def _show_plan(
    view: View, kept: Sequence[tuple[Shown, Unit]], told: Sequence[Node], room: int
) -> None:
    """All of it, or the best of it."""
    for node in told:
        room -= view.add_node(node, room) or 0
    for _, unit in sorted(kept, key=lambda pair: -pair[0].score):
        room -= view.add(unit, room) or 0


def _show_tail(view: View, tail: Sequence[Unit], room: int, newest: int) -> int:
    """From the newest on, without a gap, while there is room; the place of the oldest shown."""
    oldest = newest + 1
    for unit in tail:
        cost = view.add(unit, room)
        if cost is None:
            break
        room -= cost
        oldest = min(oldest, unit.first)
    return oldest
