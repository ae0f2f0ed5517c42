"""The forms a unit can take in a view: whole, shortened or cleared, and what each costs."""

from collections.abc import Callable
from dataclasses import replace

from burnish.memory.sessions.plan import Action
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import clear, shorten

Price = Callable[[str], int]  # tokens of one message's text, framing included


def form(unit: Unit, action: Action, price: Price) -> Unit:
    """The unit as this action shows it, with what it then costs."""
    change = {Action.SHORTEN: shorten, Action.CLEAR: clear}.get(action)
    if change is None:
        return unit
    changed = [(step, change(step)) for step in unit.steps]
    steps = [old if new is old else _priced(old, new, price) for old, new in changed]
    return unit if tuple(steps) == unit.steps else Unit(tuple(steps), action.value)


def _priced(old: Step, new: Step, price: Price) -> Step:
    tokens = price(new.text)
    return replace(new, tokens=tokens) if tokens < old.tokens else old
