"""What the learner tells Prometheus, from its ticks and its database."""

import httpx2 as httpx
import redis
from burnish.feedback.events import encode
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.metrics import Metrics, positions
from burnish.learner.tables import AlarmRow, AttemptRow, CanaryRow
from burnish.learner.ticks import Tick, record
from prometheus_client import generate_latest

from tests.conftest import free_port
from tests.learner.conftest import interaction, thumbs


def told(metrics: Metrics) -> list[str]:
    return generate_latest(metrics.registry).decode().splitlines()


def test_lag_and_events_are_told(sqlite: Database, stream: RedisStream, lease_on):
    metrics = Metrics(sqlite)
    stream.publish([encode(interaction(n)) for n in range(3)] + [encode(thumbs(1))])
    metrics.measure_lag(stream, positions(sqlite))
    assert 'burnish_stream_lag_records{partition="0",topic="burnish.interactions"} 3.0' in told(
        metrics
    )
    with lease_on(sqlite) as lease:
        metrics.count(consume(sqlite, stream, lease))
    metrics.measure_lag(stream, positions(sqlite))
    lines = told(metrics)
    assert 'burnish_stream_lag_records{partition="0",topic="burnish.interactions"} 0.0' in lines
    assert 'burnish_intake_events_total{kind="interactions"} 3.0' in lines
    assert "burnish_judgements_counted_total 1.0" in lines


def test_updates_are_told_from_the_database(sqlite: Database):
    counts = {"version": 4, "gate_passed": False, "gate_skill": 0.5, "judgements": 12}
    attempt = {"policy": "default", "parent": 1, "high_water": 1, "started_at": 1.0, "tries": 0}
    with sqlite.write() as session:
        record(session, Tick("update", "default", "learnt", counts=counts, at=10.0, seconds=2.5))
        record(session, Tick("update", "default", "trained nothing", why_not="too few", at=20.0))
        session.add(AttemptRow(id="a", state="given up", version=None, **attempt))
    lines = told(Metrics(sqlite))
    assert 'burnish_update_timestamp_seconds{policy="default"} 20.0' in lines
    assert 'burnish_update_version{policy="default"} 4.0' in lines
    assert 'burnish_gate_passed{policy="default"} 0.0' in lines
    assert 'burnish_gate_skill{policy="default"} 0.5' in lines
    assert 'burnish_update_seconds{policy="default"} 2.5' in lines
    assert 'burnish_updates_total{policy="default",state="given up"} 1.0' in lines


def test_open_alarms_are_counted(sqlite: Database):
    with sqlite.write() as session:
        for number, closed in enumerate((None, 2.0)):
            fields = {"version": 2, "name": "length", "opened_at": 1.0, "says": "longer"}
            session.add(AlarmRow(id=f"a{number}", policy="default", closed_at=closed, **fields))
    assert 'burnish_alarms_open{policy="default"} 1.0' in told(Metrics(sqlite))


def test_canaries_are_told_while_they_run_and_counted_for_good(sqlite: Database):
    figures = {
        "thumbs": {"challenger": {"users": 5, "mean": 0.8}, "champion": {"users": 6, "mean": 0.5}},
        "change": {"mean": 0.3, "lower": -0.2, "upper": None},
    }
    fields = {"policy": "default", "champion": 1, "salt": "s", "share": 0.1, "why": ""}
    with sqlite.write() as session:
        for version, state in ((2, "withdrawn"), (3, "running")):
            of = {"version": version, "state": state, "started_at": 1.0, "ended_at": None}
            session.add(CanaryRow(id=str(version), figures=figures, **fields, **of))
    lines = told(Metrics(sqlite))
    assert 'burnish_canaries_total{policy="default",state="withdrawn"} 1.0' in lines
    assert 'burnish_canary_voters{arm="champion",policy="default"} 6.0' in lines
    assert 'burnish_canary_change{policy="default",what="lower"} -0.2' in lines
    assert not [line for line in lines if 'what="upper"' in line]


def test_a_database_that_is_away_is_told_and_the_rest_with_it(tmp_path):
    metrics = Metrics(Database(f"sqlite:///{tmp_path}/empty.db"))  # without tables
    assert "burnish_database_up 0.0" in told(metrics)


def test_prometheus_is_answered(sqlite: Database):
    port = free_port()
    Metrics(sqlite).serve(f"127.0.0.1:{port}")
    assert "burnish_database_up 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_what_was_read_and_not_yet_trimmed_is_no_lag(
    stream: RedisStream, redis_client: redis.Redis
):
    assert stream.lag("burnish.feedback", 0, None) == 0
    stream.publish([encode(thumbs(n)) for n in range(3)])
    newest = stream.end_offset("burnish.feedback", 0)
    assert stream.lag("burnish.feedback", 0, None) == 3
    assert stream.lag("burnish.feedback", 0, newest) == 0, "though it is not trimmed yet"
