"""Whether an alarm opens or closes, and how that is said. Pure functions.

An alarm opens where its limit is surely passed, and closes where it surely is not, by what was seen since it
opened; in between it stays as it is. So chance does not let it flutter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from burnish.learner.alarms.comparing import Band, Compared, compare
from burnish.learner.alarms.limits import AlarmLimits
from burnish.learner.alarms.measures import Series

State = Literal["few", "quiet", "open"]
OPEN_EPOCHS = 4  # epochs that an open alarm is looked at over, before it starts anew


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One figure at one time. `value`, `low`, `high` and `reference` are in `unit`, `allowed` says what may
    be; `few`: too few observations to say anything, so an alarm stays as it is. `opens`: its
    alarm is open now. `since` is when its epoch began, `until` the time
    of the last observation; with `whole` the next reading begins there."""

    name: str
    state: State
    says: str
    value: float = 0.0
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    allowed: str = ""
    unit: str = "%"
    count: int = 0
    since: float = 0.0
    until: float = 0.0
    whole: bool = False
    opens: bool = False


@dataclass(frozen=True)
class Subject:
    """What a series is of: its name, the words for it, its band and its unit. `tests`: how many series are looked
    at for it, of which this is one."""

    name: str
    what: str
    band: Band
    unit: str = "%"
    tests: int = 1


def read(
    subject: Subject, series: Series, limits: AlarmLimits, *, since: float, is_open: bool
) -> Reading:
    """The reading of one series over its epoch."""
    count, before = len(series.now), len(series.before)
    whole = count >= limits.epoch * (OPEN_EPOCHS if is_open else 1)
    until = series.times[-1] if count else since
    if min(count, before) < limits.fewest:
        few = f"{count} of this version" if count < limits.fewest else f"{before} before it"
        why = f"{subject.what}: {few}, and {limits.fewest} are the fewest that say something"
        told = silent(subject.name, why, since=since, is_open=is_open)
        return replace(told, count=count, unit=subject.unit, until=until, whole=whole)
    found = compare(series.now, series.before, subject.band, limits.alpha, subject.tests)
    opens = stays_open(found, is_open)
    shown = Shown(series, subject.unit)
    return Reading(
        name=subject.name,
        state="open" if opens else "quiet",
        opens=opens,
        says=sentence(subject, found, shown, count),
        value=shown.of(found.now.mean),
        low=shown.of(found.now.low),
        high=shown.of(found.now.high),
        reference=shown.of(found.before.mean),
        allowed=allowed(subject.band, shown),
        unit=subject.unit,
        count=count,
        since=since,
        until=until,
        whole=whole or opens != is_open,
    )


def stays_open(found: Compared, is_open: bool) -> bool:
    return not found.inside if is_open else found.outside


@dataclass(frozen=True)
class Shown:
    """How people are shown the values of a series."""

    series: Series
    unit: str

    @property
    def scale(self) -> float:
        return self.series.scale * (100.0 if self.unit == "%" else 1.0)

    def of(self, value: float) -> float:
        return self.scale * (value - self.series.zero)

    def words(self, value: float) -> str:
        return f"{self.of(value):.{0 if self.unit in ('%', 'tokens') else 3}f} {self.unit}"


def sentence(subject: Subject, found: Compared, shown: Shown, count: int) -> str:
    quoted = f" (\u201c{shown.series.what}\u201d)" if shown.series.what else ""
    return (
        f"{subject.what}{quoted}: {shown.words(found.now.mean)}, before it"
        f" {shown.words(found.before.mean)}"
        f" (alarm outside {allowed(subject.band, shown)}; the last {count})"
    )


def allowed(band: Band, shown: Shown) -> str:
    if band.more is not None:
        return f"+{shown.scale * band.more:g} {'points' if shown.unit == '%' else shown.unit}"
    if band.most is None:
        return f"{band.least or 0:g} times or more"
    return f"{band.least or 0:g} to {band.most:g} times"


def bounded(
    name: str,
    what: str,
    value: float,
    limit: float,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "%",
    count: int = 0,
    is_open: bool,
) -> Reading:
    """The reading of a figure that has its interval already: it opens once that lies above the limit, and closes
    once it lies below."""
    least, most = (value if end is None else end for end in (low, high))
    opens = most > limit if is_open else least > limit
    scale = 100.0 if unit == "%" else 1.0
    told = f"{scale * value:.{0 if unit == '%' else 3}f} {'points' if unit == '%' else unit}"
    return Reading(
        name=name,
        state="open" if opens else "quiet",
        opens=opens,
        says=f"{what}: {told} (alarm above {scale * limit:g})",
        value=scale * value,
        low=None if low is None else scale * low,
        high=None if high is None else scale * high,
        allowed=f"{scale * limit:g}",
        unit=unit,
        count=count,
    )


def silent(name: str, why: str, *, since: float = 0.0, is_open: bool) -> Reading:
    """Nothing can be said; an alarm that is open stays so."""
    return Reading(name=name, state="few", opens=is_open, says=why, since=since, until=since)
