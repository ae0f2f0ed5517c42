"""Tracing: nothing at all while it is off; and what travels while it is on."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.telemetry import messaging, span_file, tracing
from burnish.feedback.telemetry.logs import format_logs
from burnish.feedback.telemetry.settings import TelemetrySettings
from burnish.feedback.telemetry.trail import MAX_EVENTS, Trail
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from tests.feedback.conftest import thumbs

CLIENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start(TelemetrySettings(), "test", tmp_path, exporter)
    yield exporter
    tracing.stop()


def names(spans: InMemorySpanExporter) -> list[str]:
    return [span.name for span in spans.get_finished_spans()]


def test_while_it_is_off_opentelemetry_is_not_even_imported():
    code = (
        "import sys; from pathlib import Path\n"
        "from burnish.feedback.telemetry import tracing\n"
        "from burnish.feedback.telemetry.settings import TelemetrySettings\n"
        "tracing.start(TelemetrySettings(), 'x', Path('.'))\n"
        "with tracing.span('a') as span: span.set_attribute('b', 1)\n"
        "assert tracing.past('a', 0, 1) is None and tracing.carried() == {}\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_span_goes_on_with_the_clients_trace(spans):
    with tracing.span("request", kind="server", parent=CLIENT):
        traceparent = tracing.carried()["traceparent"]
    (made,) = spans.get_finished_spans()
    assert f"{made.context.trace_id:032x}" == "a" * 32 == traceparent.split("-")[1]
    assert f"{made.parent.span_id:016x}" == "b" * 16


@pytest.mark.parametrize("given", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_broken_traceparent_begins_a_trace_of_its_own(spans, given: str):
    with tracing.span("request", parent=given):
        assert tracing.carried()
    (made,) = spans.get_finished_spans()
    assert made.parent is None


def test_what_is_not_sampled_is_not_carried(spans):
    with tracing.span("request", parent=CLIENT[:-1] + "0"):
        assert tracing.carried() == {}
    assert names(spans) == []


async def test_an_accepted_event_carries_its_trace_to_the_stream(spans, spool: Spool):
    with tracing.span("POST", parent=CLIENT):
        event = thumbs()
        await spool.append(event.topic, event.key, event)
        again = thumbs()
        await asyncio.gather(spool.append(again.topic, again.key, again))
    posted = next(s for s in spans.get_finished_spans() if s.name == "POST")
    for spooled in spool.take(10):
        parts = spooled.record.headers["traceparent"].split("-")
        assert (parts[1], parts[2]) == ("a" * 32, f"{posted.context.span_id:016x}")
    assert names(spans).count("spool") == 2


async def test_an_event_outside_of_a_trace_carries_none(spans, spool: Spool):
    event = thumbs()
    await spool.append(event.topic, event.key, event)
    (spooled,) = spool.take(10)
    assert "traceparent" not in spooled.record.headers
    assert names(spans) == []


def test_a_vote_is_linked_to_its_answer_and_its_trail_goes_on(
    spans, redis_client: redis.Redis, redis_url: str
):
    answer = StreamRecord("t", "i1", b"", {"ce_id": "i1", "traceparent": CLIENT}, offset="1")
    vote = StreamRecord("t", "i1", b"", {"ce_id": "acme/f1", "traceparent": CLIENT}, offset="2")
    plain = StreamRecord("t", "i2", b"", {"ce_id": "i2"})
    trail = Trail(redis_url)
    for batch in ([answer, plain], [vote]):
        with messaging.processing("kafka", batch, trail):
            pass
    first, second = spans.get_finished_spans()
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.attributes["messaging.system"] == "kafka"
    left = trail.follow(["acme/f1", "unknown"])
    assert left["acme/f1"].split("-")[2] == f"{second.context.span_id:016x}"
    assert list(left) == ["acme/f1"]
    assert 0 < redis_client.ttl("burnish:trail:acme/f1") <= 7 * 24 * 3600


def test_a_failure_is_the_spans_status_and_leaves_no_trail(
    spans, redis_client: redis.Redis, redis_url: str
):
    record = StreamRecord("t", "i1", b"", {"ce_id": "i1", "traceparent": CLIENT})
    with pytest.raises(LookupError), messaging.processing("redis", [record], Trail(redis_url)):
        raise LookupError
    (made,) = spans.get_finished_spans()
    assert made.status.description == "LookupError"
    assert Trail(redis_url).follow(["i1"]) == {}


def test_a_trail_is_lost_without_harm(spans):
    away = Trail("redis://127.0.0.1:1/0")
    away.leave({"a": CLIENT})
    assert away.follow(["a"]) == {}


def test_an_update_follows_so_many_votes_and_no_more(
    spans, redis_client: redis.Redis, redis_url: str
):
    events = [str(n) for n in range(MAX_EVENTS + 10)]
    trail = Trail(redis_url)
    trail.leave(dict.fromkeys(events, CLIENT))
    assert list(trail.follow(events)) == events[10:]


def test_a_file_of_spans_is_put_aside_when_it_is_full(spans, tmp_path: Path):
    with tracing.span("a"):
        pass
    file = span_file.SpanFile(tmp_path / "traces" / "x.jsonl", max_bytes=1)
    for _ in range(3):
        file.export(spans.get_finished_spans())
    (aside,) = (tmp_path / "traces").iterdir()
    assert aside.suffix == ".1"
    assert json.loads(aside.read_text())["name"] == "a"


def test_json_lines_carry_the_trace_and_no_password(spans, capsys):
    logger = logging.Logger("burnish.test")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    format_logs(TelemetrySettings(log_format="json"), logger)
    with tracing.span("request", parent=CLIENT):
        logger.warning("cannot reach %s", "redis://:hunter2@host")
    logger.error("outside")
    inside, outside = map(json.loads, capsys.readouterr().out.splitlines())
    assert inside["trace_id"] == "a" * 32
    assert inside["severity"] == "WARNING"
    assert inside["message"] == "cannot reach redis://:***@host"
    assert "trace_id" not in outside


@pytest.mark.parametrize(
    "given", [{"traces": "somewhere"}, {"metrics_address": "9464"}, {"trace_sample": 2}]
)
def test_settings_that_mean_nothing_are_refused(given):
    with pytest.raises(ValidationError):
        TelemetrySettings(**given)


def test_a_collector_without_the_extra_is_told_in_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(tracing.TracingError, match=r"pip install '.\[observe\]'"):
        tracing.start(TelemetrySettings(traces="http://127.0.0.1:4318"), "x", tmp_path)
    assert not tracing.is_on()
