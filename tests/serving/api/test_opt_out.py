"""Opt-out: the answer is given, nothing of it is written, and feedback on it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from burnish.serving.api.opt_out import HEADER
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

MARKER = "ZANZIBAR-7731"
CHAT: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": MARKER}]}
MESSAGES = {**CHAT, "max_tokens": 20}
RESPONSE = {"model": "default", "input": MARKER}
PROMPTS = {"model": "default", "prompt": [MARKER, MARKER]}
OPTED_OUT = {HEADER: "true"}

WAYS = pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/chat/completions", {**CHAT, "store": False}, {}),
        ("/v1/chat/completions", {**CHAT, "store": False, "stream": True}, {}),
        ("/v1/chat/completions", CHAT, OPTED_OUT),
        ("/v1/completions", {**PROMPTS, "store": False}, {}),
        ("/v1/completions", PROMPTS, OPTED_OUT),
        ("/v1/responses", {**RESPONSE, "store": False}, {}),
        ("/v1/responses", RESPONSE, OPTED_OUT),
        ("/v1/messages", MESSAGES, OPTED_OUT),
    ],
)


def written(running: Running) -> bytes:
    folder = running.service.settings.data_dir
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@WAYS
def test_nothing_of_it_is_written(
    running: Running, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = running.http("POST", path, json=body, headers=headers)
    assert answer.status_code == 200
    assert len(running.engine.requests) == len(body.get("prompt", [MARKER]))
    assert running.recorded() == []
    assert MARKER.encode() not in written(running)


@WAYS
def test_feedback_on_it_is_refused_with_the_reason(
    running: Running, path: str, body: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = running.http("POST", path, json={**body, "stream": False}, headers=headers).json()
    given = answer["choices"][0].get("interaction_id") if "prompt" in body else answer["id"]
    thumb = {"interaction_id": given, "name": "thumbs", "value": "up"}
    refused = running.http("POST", "/v1/feedback", json=[thumb])
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("interaction_not_recorded", "[0].interaction_id")
    assert "store: false" in error["message"]


@pytest.mark.parametrize("headers", [{}, {HEADER: "false"}, {HEADER: "0"}])
@pytest.mark.parametrize("store", [{}, {"store": True}, {"store": None}])
def test_who_does_not_opt_out_is_recorded(
    running: Running, store: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, **store}, headers=headers)
    assert [event.id for event in running.recorded()] == [answer.json()["id"]]
    assert MARKER.encode() in written(running)


def test_a_header_that_says_neither_is_named(running: Running) -> None:
    refused = running.http("POST", "/v1/chat/completions", json=CHAT, headers={HEADER: "perhaps"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, HEADER)


def test_a_stream_that_is_left_is_not_recorded_either(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, StubEngine(lambda _: "x" * 1500, pace_s=0.02))
    stream = running.say(MARKER, stream=True, max_tokens=1500, store=False)
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    eventually(lambda: not running.service.policies.leased)
    running.say("another")
    assert len(running.recorded()) == 1
    assert MARKER.encode() not in written(running)


def test_they_are_counted_apart(running: Running) -> None:
    running.say(store=False)
    assert 'burnish_interactions_total{outcome="opted_out"' in running.http("GET", "/metrics").text
    assert running.http("GET", "/readyz").json()["unrecorded"] == 0
