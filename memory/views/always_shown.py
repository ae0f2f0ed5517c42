"""What every view shows, whatever else is decided: the pinned floor, rules and the newest exchange.

The floor is shown whole or refused by name. Rules follow, in full or only their sentences, within a
share of what is left; then the newest exchange: the newest step, what it may be waiting for, and the
newest user step, cut at head and tail where they do not fit. So no step is too large for a view.
"""

from collections.abc import Sequence

from burnish.memory.sessions.units import Unit, distinct
from burnish.memory.views.forms import cost, cut_to, fitted, rules_of
from burnish.memory.views.view import View

RULES_SHARE = 0.5  # of what the floor and the shortest form of the newest exchange leave
RULE_WHOLE = 80  # tokens up to which a step that states a rule is shown whole
EXCHANGE_SHARE = 0.75  # of what is left, for an exchange that does not fit whole


def show_always(
    view: View, floor: Sequence[Unit], rules: Sequence[Unit], exchange: Sequence[Unit]
) -> int:
    """Fill `view` with these; how many rules found no room.

    Raises BudgetTooSmall where the floor and the shortest form of the exchange exceed the budget.
    """
    pinned = {unit.first for unit in floor}
    newest = [unit for unit in distinct(exchange) if unit.first not in pinned]
    least = sum(_least(unit, view) for unit in newest)
    view.add_floor(floor, beside=least)
    missing = _show_rules(view, rules, int((view.left - least) * RULES_SHARE))
    _show_exchange(view, [unit for unit in newest if unit not in view])
    view.settle()
    return missing


def exchange_of(newest_first: Sequence[Unit], asked: Sequence[Unit]) -> list[Unit]:
    """The newest step's unit, the latest begun (not the same when a result came late), and the newest
    user step: of the newest units, unless `asked` names it."""
    if not newest_first:
        return list(asked)
    latest = max(newest_first, key=lambda unit: unit.first)
    users = [unit for unit in newest_first if unit.steps[0].role == "user"]
    return distinct([newest_first[0], latest, *(asked or users[:1])])


def _show_rules(view: View, rules: Sequence[Unit], available: int) -> int:
    """Newest first, the same words once; how many did not fit `available` tokens."""
    said: set[str] = set()
    missing = 0
    for unit in reversed(rules):
        if unit.text in said:
            continue
        said.add(unit.text)
        shown = unit if cost(unit, view.price) <= RULE_WHOLE else rules_of(unit, view.price)
        paid = view.add(shown, available)
        available -= paid or 0
        missing += paid is None
    return missing


def _show_exchange(view: View, units: Sequence[Unit]) -> None:
    """Whole if they fit; else each gets an equal part of a share, and what smaller ones leave of it."""
    by_size = sorted(units, key=lambda unit: cost(unit, view.price))
    fits = sum(cost(unit, view.price) for unit in by_size) <= view.left
    left = view.left if fits else int(view.left * EXCHANGE_SHARE)
    for place, unit in enumerate(by_size):
        after = sum(_least(other, view) for other in by_size[place + 1 :])
        part = left if fits else max(left // (len(by_size) - place), _least(unit, view))
        shown = fitted(unit, min(part, view.left - after), view.price)
        left -= view.add(shown, view.left) or 0 if shown else 0


def _least(unit: Unit, view: View) -> int:
    return min(cost(unit, view.price), cost(cut_to(unit, 0, view.price), view.price))
