"""The whole API as its own description has it: whatever is sent, nothing breaks and all is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from burnish.serving.api.openapi import ERRORS
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

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


def operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


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


def test_whatever_is_sent_no_answer_is_a_bug(whole: Running) -> None:
    """A few hundred requests, drawn from the description and from near beside it."""
    schemathesis: Any = pytest.importorskip("schemathesis")
    modes = list(schemathesis.GenerationMode)
    described = schemathesis.openapi.from_dict(document(whole))
    quick = hypothesis_settings(
        max_examples=CALLS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )
    told = {
        (method, path): set(op["responses"]) for method, path, op in operations(document(whole))
    }

    def holds(case: Any, asked: tuple[str, str]) -> None:
        answer = case.call(base_url=whole.url, timeout=20)
        unavailable = answer.status_code == 503 and "Retry-After" in answer.headers
        assert answer.status_code < 500 or unavailable, (asked, answer.text)
        assert "Traceback" not in answer.text
        if answer.text == "Invalid HTTP request received.":  # uvicorn's, before there is a request
            return
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        if answer.status_code not in (404, 405):  # a filled-in path may be another's, or nobody's
            assert str(answer.status_code) in told[asked], (asked, answer.text)

    for found in described.get_all_operations():
        operation = found.ok()
        for mode in modes:
            asked = st.just((operation.method.upper(), operation.path))
            cases = operation.as_strategy(generation_mode=mode)
            with suppress(Unsatisfiable):  # it takes nothing, so nothing of it can be wrong
                quick(given(cases, asked)(holds))()
    assert whole.http("GET", "/healthz").status_code == 200
    assert whole.say("Hi").choices[0].message.content == "Hello there."
