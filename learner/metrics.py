"""What Prometheus scrapes of the learner, from the worker that takes events in: the one that lives long.

Figures of updates are read from the database when scraped, since their processes end between two of
them. Labels are topics, policies and outcomes; left out: whatever grows with users or sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from burnish.feedback.contract import TOPICS
from burnish.feedback.stream.event_stream import EventStream
from burnish.learner.database import Database
from burnish.learner.tables import (
    AlarmRow,
    AttemptRow,
    CanaryRow,
    CounterRow,
    OffsetRow,
    TickRow,
    UnmatchedRow,
)
from burnish.learner.ticks import Tick
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

LATEST = 100  # ticks among which each policy's last update is looked for
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One set per process."""

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "burnish_intake_events", "Events taken in.", ("kind",), registry=self.registry
        )
        self.seconds = Histogram(
            "burnish_intake_tick_seconds",
            "Of ticks that found events.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.looked = Gauge(
            "burnish_intake_timestamp_seconds",
            "When the stream was last looked into, since 1970.",
            registry=self.registry,
        )
        self.lag = Gauge(
            "burnish_stream_lag_records",
            "Events in the stream that the database does not have.",
            ("topic", "partition"),
            registry=self.registry,
        )
        self.registry.register(Learning(database))

    def serve(self, address: str) -> None:
        """Answer Prometheus at HOST:PORT from a thread. Raises OSError where that is taken."""
        host, _, port = address.rpartition(":")
        start_http_server(int(port), host.strip("[]"), self.registry)

    def count(self, tick: Tick | None) -> None:
        self.looked.set_to_current_time()
        if tick is not None:
            self.seconds.observe(tick.seconds)
            for kind, count in tick.counts.items():
                self.events.labels(kind).inc(count)

    def measure_lag(self, stream: EventStream, positions: Mapping[tuple[str, int], str]) -> None:
        """`positions`: the last offset that the database has of each topic and partition."""
        for topic in TOPICS:
            for partition in stream.partitions(topic):
                behind = stream.lag(topic, partition, positions.get((topic, partition)))
                self.lag.labels(topic, str(partition)).set(behind)


def positions(database: Database) -> dict[tuple[str, int], str]:
    with database.read() as session:
        rows = session.scalars(select(OffsetRow)).all()
    return {(row.topic, row.partition): row.position for row in rows}


class Learning(Collector):
    """How learning stands, as the database tells it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        return ()  # or registering would ask the database

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("burnish_database_up", "1 while the experience database answers.")
        found: list[Metric] = []
        try:
            with self._database.read() as session:
                found = [
                    *_judgements(session),
                    *_updates(session),
                    *_canaries(session),
                    *_alarms(session),
                ]
            up.add_metric((), 1)
        except SQLAlchemyError as error:
            log.warning("metrics: %s", error)
            up.add_metric((), 0)
        return [up, *found]


def _judgements(session: Session) -> Iterable[Metric]:
    counted = session.get(CounterRow, "credit")
    yield CounterMetricFamily(
        "burnish_judgements_counted",
        "Judgements that met their answer.",
        value=counted.value if counted else 0,
    )
    yield GaugeMetricFamily(
        "burnish_judgements_unmatched",
        "Judgements whose answer has not come.",
        value=session.scalar(select(func.count()).select_from(UnmatchedRow)) or 0,
    )


def _updates(session: Session) -> Iterable[Metric]:
    attempts = CounterMetricFamily(
        "burnish_updates", "Attempts at a version, by how they stand.", labels=("policy", "state")
    )
    grouped = select(AttemptRow.policy, AttemptRow.state, func.count()).group_by(
        AttemptRow.policy, AttemptRow.state
    )
    for policy, state, count in session.execute(grouped):
        attempts.add_metric((policy, state), count)
    yield attempts
    last: dict[str, TickRow] = {}
    made: dict[str, TickRow] = {}
    newest = (
        select(TickRow).where(TickRow.kind == "update").order_by(TickRow.at.desc()).limit(LATEST)
    )
    for row in session.scalars(newest):
        last.setdefault(row.policy, row)
        if "version" in row.counts:
            made.setdefault(row.policy, row)
    yield _gauge(
        "burnish_update_timestamp_seconds",
        "When an update was last tried, since 1970.",
        {policy: row.at for policy, row in last.items()},
    )
    for name, what, key in (
        ("burnish_update_seconds", "Of the last update that made a version.", None),
        ("burnish_update_version", "The version that the last update made.", "version"),
        ("burnish_update_judgements", "Judgements that were new to it.", "judgements"),
        ("burnish_gate_passed", "1 where it passed the gate.", "gate_passed"),
        ("burnish_gate_skill", "Its share of held-out tasks right.", "gate_skill"),
        ("burnish_gate_base_skill", "The base model's share of them.", "gate_base_skill"),
    ):
        values = {p: row.counts.get(key) if key else row.seconds for p, row in made.items()}
        yield _gauge(name, what, {p: float(v) for p, v in values.items() if v is not None})


def _canaries(session: Session) -> Iterable[Metric]:
    """What became of all of them, and what those that run have shown."""
    ended = CounterMetricFamily(
        "burnish_canaries", "Challengers tried, by what became of them.", labels=("policy", "state")
    )
    grouped = select(CanaryRow.policy, CanaryRow.state, func.count()).group_by(
        CanaryRow.policy, CanaryRow.state
    )
    for policy, state, count in session.execute(grouped):
        ended.add_metric((policy, state), count)
    yield ended
    voters = GaugeMetricFamily(
        "burnish_canary_voters", "Users of a canary who voted.", labels=("policy", "arm")
    )
    change = GaugeMetricFamily(
        "burnish_canary_change",
        "Of the thumbs rate by a challenger: its mean, and bounds that hold at any time.",
        labels=("policy", "what"),
    )
    for row in session.scalars(select(CanaryRow).where(CanaryRow.state == "running")):
        for arm, told in row.figures.get("thumbs", {}).items():
            voters.add_metric((row.policy, arm), told["users"])
        for what, value in row.figures.get("change", {}).items():
            if value is not None:
                change.add_metric((row.policy, what), value)
    yield voters
    yield change


def _alarms(session: Session) -> Iterable[Metric]:
    """Of every policy that ever had one."""
    counted = select(AlarmRow.policy, func.count() - func.count(AlarmRow.closed_at))
    yield _gauge(
        "burnish_alarms_open",
        "Alarms that are open, and keep the champion where it is.",
        {policy: count for policy, count in session.execute(counted.group_by(AlarmRow.policy))},
    )


def _gauge(name: str, what: str, by_policy: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(name, what, labels=("policy",))
    for policy, value in by_policy.items():
        gauge.add_metric((policy,), value)
    return gauge
