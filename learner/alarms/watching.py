"""One look at a policy: every measure of every version that serves, kept, and alarms opened or closed by it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import redis
from burnish.learner.alarms import drift, history
from burnish.learner.alarms.deciding import OPEN_EPOCHS, Reading, Subject, bounded, read, silent
from burnish.learner.alarms.limits import AlarmLimits, read_limits
from burnish.learner.alarms.measures import MEASURES
from burnish.learner.alarms.publishing import publish, publish_quarantine
from burnish.learner.alarms.reading import Answer, answers_before, answers_since, newest_answer
from burnish.learner.database import Database
from burnish.learner.report import reading as votes
from burnish.learner.report.data import ReportData
from burnish.learner.report.figures import Report
from burnish.learner.report.publishing import last_report
from burnish.learner.reward.quarantine import newest_release
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import AlarmReadingRow
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

VOTES = 2048  # latest judged answers that drift is looked for in


@dataclass
class Watch:
    """Looks at policies and remembers what it has seen: where nothing is new, it does not look again."""

    database: Database
    client: redis.Redis
    settings: LearnerSettings
    clock: Callable[[], float] = time.time
    _seen: dict[str, str] = field(default_factory=dict)

    def look(self, policy: str, served: Sequence[int]) -> list[history.Alarm]:
        """Look at these versions; the alarms that hold promotion back afterwards. Raises LimitsError."""
        limits, now = read_limits(self.settings.alarm_limits), self.clock()
        report = last_report(self.client, policy)
        with self.database.read() as session:
            newest = (
                newest_answer(session, policy),
                votes.state_of(session, policy),
                newest_release(session),
            )
            state = "/".join(map(str, (*newest, report and report.fitted_at, *served)))
            if self._seen.get(policy) == state:
                return history.holding(session, policy, now)
            data = votes.read(
                session, policy, at=now, limit=VOTES, trust=self.settings.trust_of(policy)
            )
            found = [
                (version, reading)
                for version in served
                for reading in self._readings(session, data, version, limits, report)
            ]
        with self.database.write() as session:
            history.close_others(session, policy, served, now)
            for version, reading in found:
                history.keep(session, _row(policy, version, reading, now), opens=reading.opens)
        self._seen[policy] = state
        with self.database.read() as session:
            publish(session, self.client, policy)
            publish_quarantine(self.client, data)
            return history.holding(session, policy, now)

    def _readings(
        self,
        session: Session,
        data: ReportData,
        version: int,
        limits: AlarmLimits,
        report: Report | None,
    ) -> Iterator[Reading]:
        policy = data.policy
        is_open = {alarm.name for alarm in history.open_alarms(session, policy, version)}

        def since(name: str) -> float:
            return history.epoch_of(session, policy, version, name)

        @cache
        def answers(after: float, epochs: int) -> list[Answer]:
            return answers_since(session, policy, version, after, epochs * limits.epoch)

        before = answers_before(session, policy, version, limits.reference)
        for name, watched in MEASURES.items():
            opened, began = name in is_open, since(name)
            series = watched.measure(answers(began, OPEN_EPOCHS if opened else 1), before)
            subject = Subject(name, watched.what, watched.band(limits), watched.unit)
            yield read(subject, series, limits, since=began, is_open=opened)
        yield from of_report(report, version, limits, is_open)
        yield from of_votes(data, version, limits, since, is_open)


def of_report(
    report: Report | None, version: int, limits: AlarmLimits, is_open: set[str]
) -> Iterator[Reading]:
    """What the report has found of a version: foreseen likes and observed ones, and KL."""
    figures = report.of_version(version) if report else None
    found = figures.foreseen if figures else None
    opened = "foreseen" in is_open
    if found is None or found.low is None or found.high is None:
        why = (figures.unforeseen if figures else None) or "too few votes or people"
        yield silent("foreseen", f"foreseen likes above those observed: {why}", is_open=opened)
    else:
        yield bounded(
            "foreseen",
            "foreseen likes above those observed",
            found.gap,
            limits.foreseen,
            low=found.low,
            high=found.high,
            count=round(found.votes),
            is_open=opened,
        )
    opened = "kl" in is_open
    if figures is None or figures.kl is None:
        yield silent("kl", "KL to the base: no update made this version", is_open=opened)
    else:
        unit = "nats per token"
        yield bounded("kl", "KL to the base", figures.kl, limits.kl, unit=unit, is_open=opened)


def of_votes(
    data: ReportData,
    version: int,
    limits: AlarmLimits,
    since: Callable[[str], float],
    is_open: set[str],
) -> Iterator[Reading]:
    for name, measure in (("prompts", drift.prompts), ("tastes", drift.tastes)):
        yield measure(data, version, limits, since=since(name), is_open=name in is_open)


def _row(policy: str, version: int, reading: Reading, now: float) -> AlarmReadingRow:
    return AlarmReadingRow(
        policy=policy,
        version=version,
        name=reading.name,
        since=reading.since,
        at=now,
        until=reading.until,
        whole=reading.whole,
        state=reading.state,
        count=reading.count,
        value=reading.value,
        low=reading.low,
        high=reading.high,
        reference=reading.reference,
        allowed=reading.allowed,
        unit=reading.unit,
        says=reading.says,
    )
