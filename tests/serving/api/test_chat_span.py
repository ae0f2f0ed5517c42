"""The spans of a chat: OpenTelemetry's GenAI conventions, one set per request however long the answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.settings import TelemetrySettings
from burnish.serving.engine import StubEngine
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.serving.conftest import Running
from tests.waiting import eventually

Spans = Callable[[], dict[str, ReadableSpan]]


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    tracing.start(TelemetrySettings(), "test", tmp_path, exporter)

    def by_name() -> dict[str, ReadableSpan]:
        found = exporter.get_finished_spans()
        assert len({span.name for span in found}) == len(found), "a span for each request, once"
        return {span.name: span for span in found}

    yield by_name
    tracing.stop()


OF_A_CHAT = {
    "POST /v1/chat/completions",
    "chat default",
    "engine prefill",
    "engine decode",
    "spool",
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_told_by_the_conventions(spans: Spans, running: Running, stream: bool):
    answer = running.say("Hi", temperature=0.5, max_tokens=7, seed=3, stream=stream)
    if stream:
        (answer,) = {chunk.id: chunk for chunk in answer}.values()
    eventually(lambda: set(spans()) >= OF_A_CHAT)
    chat = spans()["chat default"]
    told: dict[str, Any] = dict(chat.attributes or {})
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.id"] == answer.id
    assert told["gen_ai.response.model"] == "default@1"
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.max_tokens"] == 7
    assert told["gen_ai.request.seed"] == 3
    assert told["gen_ai.request.stream"] is stream
    assert told["gen_ai.response.finish_reasons"] in (("stop",), ("length",))
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["gen_ai.usage.input_tokens"] > 0
    request = spans()["POST /v1/chat/completions"]
    assert chat.parent == request.context
    assert (request.attributes or {})["http.response.status_code"] == 200
    words = str([dict(span.attributes or {}) for span in spans().values()])
    assert "Hi" not in words
    assert "Hello" not in words, "what people and models write is nobody else's"


def test_a_long_answer_has_no_more_spans_than_a_short_one(
    spans: Spans, serve: Callable[..., Running], settings
):
    running = serve(settings, StubEngine("word " * 300))
    running.say("Hi", max_tokens=300)
    eventually(lambda: set(spans()) >= OF_A_CHAT)
    assert set(spans()) == OF_A_CHAT


def test_a_refusal_is_told_and_the_probes_are_not(spans: Spans, running: Running):
    with pytest.raises(openai.NotFoundError):
        running.say("Hi", model="nobody")
    for path in ("/healthz", "/readyz", "/metrics"):
        running.http("GET", path)
    assert set(spans()) == {"POST /v1/chat/completions"}
    assert (spans()["POST /v1/chat/completions"].attributes or {})[
        "http.response.status_code"
    ] == 404


def test_without_tracing_a_generation_costs_one_question(running: Running, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a span was made")

    monkeypatch.setattr(tracing, "past", refuse)
    monkeypatch.setattr(tracing, "span", refuse)
    assert running.say("Hi").choices[0].message.content
