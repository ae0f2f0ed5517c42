"""The forms a unit can take in a view: whole, shortened, cut to a size or cleared; what each costs."""

from collections.abc import Callable
from dataclasses import replace

from burnish.memory.sessions.plan import Action
from burnish.memory.sessions.steps import Step
from burnish.memory.sessions.units import Unit
from burnish.memory.views.shorten import clear, cut, only_rules, shorten

Price = Callable[[str], int]  # tokens of one message's text, framing included

NO_RESULT = "[no result of this call was recorded]"
CLOSE = 0.97  # of the tokens available: a cut that costs this much is not widened further
TRIES = 8


def cost(unit: Unit, price: Price) -> int:
    """Tokens of the unit's messages, the stand-ins for results that never came included."""
    missing = len(unit.unanswered)
    return unit.tokens + (missing * price(NO_RESULT) if missing else 0)


def form(unit: Unit, action: Action, price: Price) -> Unit:
    """The unit as this action shows it, with what it then costs."""
    change = {Action.SHORTEN: shorten, Action.CLEAR: clear}.get(action)
    return unit if change is None else _changed(unit, change, action.value, price)


def rules_of(unit: Unit, price: Price) -> Unit:
    """The unit with nothing but the rules it states, whole where that is no longer."""
    return _changed(unit, only_rules, Action.SHORTEN.value, price)


def fitted(unit: Unit, available: int, price: Price) -> Unit | None:
    """The unit whole if it costs at most `available` tokens, else with its longest texts cut at head
    and tail until it does; None where even their notes cost more."""
    whole = cost(unit, price)
    if whole <= available:
        return unit
    best = cut_to(unit, 0, price)
    if cost(best, price) > available:
        return None
    low, high = 0, max(_lengths(unit))
    # A cut is by characters, the limit is in tokens: guess by the unit's own rate, then close in.
    guess = int(_level(unit, available / whole))
    for _ in range(TRIES):
        tried = cut_to(unit, guess, price)
        paid = cost(tried, price)
        if paid <= available:
            best, low = tried, guess
            if paid >= CLOSE * available:
                break
        else:
            high = guess
        if high - low <= 1:
            break
        guess = min(max(guess * available // paid, low + 1), high - 1)
    return best


def cut_to(unit: Unit, characters: int, price: Price) -> Unit:
    """The unit with each of its texts cut to about so many characters."""
    return _changed(unit, lambda step: cut(step, characters), Action.SHORTEN.value, price)


def _changed(unit: Unit, change: Callable[[Step], Step], name: str, price: Price) -> Unit:
    changed = [(step, change(step)) for step in unit.steps]
    steps = [old if new is old else _priced(old, new, price) for old, new in changed]
    return unit if tuple(steps) == unit.steps else Unit(tuple(steps), name)


def _priced(old: Step, new: Step, price: Price) -> Step:
    tokens = price(new.text)
    return replace(new, tokens=tokens) if tokens < old.tokens else old


def _lengths(unit: Unit) -> list[int]:
    return [len(step.text) for step in unit.steps]


def _level(unit: Unit, share: float) -> float:
    """The length to which the longest texts come down when only `share` of all characters stays."""
    lengths = sorted(_lengths(unit))
    left = share * sum(lengths)
    for place, length in enumerate(lengths):
        level = left / (len(lengths) - place)
        if length >= level:
            return level
        left -= length
    return lengths[-1]
