"""Clients that leave, engines that fail, and what is left behind: nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx2 as httpx
import openai
import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def slow(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    return serve(settings, StubEngine(lambda _: "x" * 1500, pace_s=0.02))


@pytest.mark.parametrize("n", [1, 3])
def test_hanging_up_on_a_stream_frees_the_slots_and_records_what_was_seen(
    slow: Running, n: int
) -> None:
    stream = slow.say("Hi", stream=True, n=n, max_tokens=1500)
    first = next(chunk for chunk in stream if chunk.choices[0].delta.content)
    assert len(slow.engine.running) == n
    stream.close()
    eventually(lambda: not slow.engine.running)
    eventually(lambda: bool(slow.recorded()))
    event = slow.recorded()[-1]
    assert event.id == first.id
    assert event.completions[0].finish_reason == "cancelled"
    assert 0 < len(event.completions[0].token_ids) < 1500
    eventually(lambda: not slow.service.policies.leased)


def test_hanging_up_on_a_whole_answer_frees_the_slot(slow: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{slow.url}/v1/chat/completions", json={**CHAT, "max_tokens": 1500}, timeout=0.3
        )
    eventually(lambda: not slow.engine.running)
    eventually(lambda: not slow.service.policies.leased)
    assert slow.recorded() == []


def test_hanging_up_before_the_first_token_frees_the_slot(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, StubEngine(lambda _: "x", pace_s=30))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=0.3)
    eventually(lambda: not running.engine.running)
    eventually(lambda: not running.service.policies.leased)


def test_leases_end_with_their_answers(running: Running) -> None:
    running.say("Hi")
    list(running.say("Hi", stream=True, n=2))
    with pytest.raises(openai.BadRequestError):
        running.say("x" * 3000)
    eventually(lambda: not running.service.policies.leased)
    eventually(lambda: running.service.in_flight == 0)


def test_who_hangs_up_before_the_body_is_whole_is_no_error_of_the_service(running: Running) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    head = f"POST /v1/feedback HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 100\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        eventually(lambda: running.service.in_flight == 1)

    def counted(status: int) -> float:
        return running.service.metrics.requests.labels("other", status)._value.get()

    # 401 where it was gone before it was known whose the connection is.
    eventually(lambda: counted(499) + counted(401) == 1)
    assert counted(500) == 0
