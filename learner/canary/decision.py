"""What becomes of a canary: pure, from its evidence and settings.

    withdraw   an alarm is open, requests fail, or something is surely worse than allowed
    promote    people surely like the challenger better; or the gate's verdict counts, since votes do not tell
    end        the champion stays, since votes do not tell
    ramp       to a larger share of users
    hold       for now

While somebody has paused it, it is withdrawn or held. Before its first users come those who do not see it (shadow.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.learner.canary.evidence import Evidence, Harm
from burnish.learner.canary.settings import CanarySettings

SHADOW_HOURS = 1.0  # after which its outcome is not waited for

Action = Literal["withdraw", "promote", "end", "ramp", "hold"]

_HARMS: dict[Harm, str] = {
    "failures": "requests fail more often",
    "thumbs": "people like it less",
    "signal": "what people do with its answers is worse",
    "slower": "its answers take longer",
    "longer": "its answers are longer",
    "shorter": "its answers are shorter",
}


@dataclass(frozen=True)
class Decision:
    """`why` is a sentence; `share`: of end users, for `ramp`."""

    action: Action
    why: str
    share: float | None = None


@dataclass(frozen=True)
class ShadowResult:
    """By how much foreseen thumbs moved against the champion, with a 95 % bound for each side; None where nothing can
    be said, and `says` why."""

    says: str
    mean: float | None = None
    lower: float | None = None
    upper: float | None = None


def decide(
    settings: CanarySettings,
    evidence: Evidence,
    *,
    share: float,
    hours: float,
    open_alarms: Sequence[str] = (),
    paused: str | None = None,
) -> Decision:
    """`share` of users whom the challenger answers now, `hours` since it began; `open_alarms` as sentences;
    `paused`: by whom."""
    if open_alarms:
        return Decision("withdraw", f"an alarm is open: {open_alarms[0]}")
    if evidence.worse:
        return Decision("withdraw", "surely more than is allowed: " + told(evidence.worse))
    if paused is not None:
        return Decision("hold", f"{paused} has paused it")
    if evidence.better.won:
        low, high = evidence.lower, evidence.upper
        return Decision(
            "promote", f"people like it better: by {low:+.3f} to {high:+.3f} of their thumbs"
        )
    voters = evidence.voters
    if evidence.better.over:
        none = f"{voters} users of each arm have voted, and neither version is surely better"
        return _fall_back(settings.undecided, none)
    if hours >= settings.hours:
        few = f"only {voters} users of each arm have voted in {hours:.1f} hours, too few to tell"
        return _fall_back(settings.too_few, few)
    wanted = ramped(settings, evidence.lower, share)
    if wanted > share:
        surely = f"at most {-evidence.lower:.2f} of the thumbs can have been lost"
        return Decision("ramp", f"{surely}, so {wanted:.0%} of users may have it", wanted)
    return Decision("hold", _waits(settings, voters, hours))


def after_shadow(
    settings: CanarySettings,
    result: ShadowResult | None,
    *,
    hours: float,
    open_alarms: Sequence[str] = (),
    paused: str | None = None,
) -> Decision:
    """Of a challenger that no user has met yet."""
    if open_alarms:
        return Decision("withdraw", f"an alarm is open: {open_alarms[0]}")
    if result is not None and result.upper is not None and result.upper < -settings.shadow_margin:
        return Decision("withdraw", f"in shadow, {result.says}")
    if paused is not None:
        return Decision("hold", f"{paused} has paused it")
    first = settings.shares[0]
    if result is not None:
        return Decision("ramp", f"in shadow, {result.says}", first)
    if hours >= SHADOW_HOURS:
        return Decision("ramp", "nothing has come of its shadow", first)
    return Decision("hold", f"it answers {settings.shadow} logged prompts first, which nobody sees")


def ramped(settings: CanarySettings, lower: float, share: float) -> float:
    """The largest step at which no more than `at_stake` of all thumbs may be lost, if the change is as bad as its
    lower bound; never less than `share`."""
    allowed = [step for step in settings.shares if step * -lower <= settings.at_stake]
    return max([share, *allowed])


def told(harms: Sequence[Harm]) -> str:
    return "; ".join(_HARMS[harm] for harm in harms)


def _fall_back(to: Literal["gate", "keep"], why: str) -> Decision:
    if to == "gate":
        return Decision(
            "promote", f"{why}: the gate's verdict counts, and nothing was seen to harm"
        )
    return Decision("end", f"{why}: the champion stays")


def _waits(settings: CanarySettings, voters: int, hours: float) -> str:
    """How far it is, and where traffic is too little to decide in time."""
    has = f"{voters} of up to {settings.users} users of each arm have voted"
    if hours < settings.hours / 10 or voters >= settings.users * hours / settings.hours:
        return has
    then = "the gate's verdict decides" if settings.too_few == "gate" else "the champion stays"
    left = settings.hours - hours
    return f"{has}: traffic is too little to tell small differences; in {left:.1f} hours {then}"
