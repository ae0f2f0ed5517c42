"""The whole API as its own description has it: whatever is sent, nothing breaks and all is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from burnish.ops.bench.lib.openapi_fuzz import fuzz, operations
from burnish.serving.api.openapi import ERRORS
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

CALLS = 8  # per operation


@pytest.fixture
def whole(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> Running:
    return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello there."))


def document(running: Running) -> dict[str, Any]:
    return running.http("GET", "/openapi.json").json()


def test_every_operation_tells_its_errors(running: Running) -> None:
    told = document(running)
    for _, path, operation in operations(told):
        statuses = set(operation["responses"])
        assert statuses <= {"200", "201", "202", "204", *map(str, ERRORS)}
        assert {"400", "500"} <= statuses
        assert ("401" in statuses) == (path.startswith("/v1/") or path == "/metrics")
    assert "422" not in json.dumps(told)


def test_the_page_of_the_api_needs_no_other_host(running: Running) -> None:
    for name in ("/docs", "/static/docs.js", "/static/docs.css"):
        answer = running.http("GET", name)
        assert answer.status_code == 200
        assert "https://" not in answer.text


def test_head_and_options(running: Running) -> None:
    for path in ("/", "/healthz", "/v1/models", "/v1/policies/default", "/openapi.json"):
        whole, head = running.http("GET", path), running.http("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"]
    assert running.http("HEAD", "/v1/nothing").status_code == 404
    allowed = running.http("OPTIONS", "/v1/feedback")
    assert (allowed.status_code, allowed.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert running.http("OPTIONS", "/v1/chat/completions").headers["allow"] == "OPTIONS, POST"
    assert running.http("OPTIONS", "/v1/nothing").status_code == 404
    assert running.http("PUT", "/v1/feedback", json={}).status_code == 405


def test_a_name_of_too_many_bytes_is_told_of(whole: Running) -> None:
    path = "/v1/memory/sessions/{session_id}/compactions"
    answer = whole.http("GET", path.format(session_id="\u8a71" * 200))
    assert answer.status_code == 413
    assert str(answer.status_code) in document(whole)["paths"][path]["get"]["responses"]


def test_whatever_is_sent_no_answer_is_a_bug(whole: Running) -> None:
    """A few hundred requests, drawn from the description and from near beside it."""
    drawn = fuzz(whole.url, document(whole), CALLS, derandomize=True)
    assert drawn.requests > 200
    assert drawn.wrong == []
    assert whole.http("GET", "/healthz").status_code == 200
    assert whole.say("Hi").choices[0].message.content == "Hello there."
