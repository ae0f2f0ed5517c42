"""Nobody waits for somebody else's request, and who waits for an answer hears of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx2 as httpx
import openai
import pytest
from burnish.serving.api import off_loop as threads
from burnish.serving.api.off_loop import LONG, SHORT, off_loop, work_of
from burnish.serving.api.resent_history import prefix_ids
from burnish.serving.engine import Delta, Request, StubEngine
from burnish.serving.engine.stub import StubTokenizer
from burnish.serving.settings import ServingSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running

CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}


class SlowTokenizer(StubTokenizer):
    """Long texts take until the test lets them go."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.go = threading.Event()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.asked.append(len(text))
        if len(text) > 1000:
            self.go.wait(20)
        return super().encode(text)


class LateEngine(StubEngine):
    """The first token comes late, or an error of no kind that is foreseen does."""

    def __init__(self, wait_s: float = 0.0, error: Exception | None = None, after: int = 0):
        super().__init__("Hello there.")
        self.wait_s, self.error, self.after = wait_s, error, after

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        import asyncio

        await asyncio.sleep(self.wait_s)
        count = 0
        async for delta in super().generate(request):
            if self.error is not None and count == self.after:
                raise self.error
            count += 1
            yield delta


def test_others_are_answered_while_a_long_prompt_is_tokenised(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    engine = StubEngine("Hello there.")
    engine.tokenizer = SlowTokenizer()
    running = serve(settings, engine)
    body = {"model": "default", "prompt": "x" * 1500}
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(running.http("POST", "/v1/completions", json=body))
    )
    asking.start()
    try:
        while not engine.tokenizer.asked:
            time.sleep(0.01)
        assert running.http("GET", "/healthz").status_code == 200
        assert running.say("Hi").choices[0].message.content == "Hello there."
        assert not answers
    finally:
        engine.tokenizer.go.set()
        asking.join(20)
    assert answers[0].status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 10**6}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 500}] * 10}, "messages"),
        ("/v1/completions", {"prompt": "x" * 10**6}, "prompt"),
    ],
)  # fmt: skip
def test_what_cannot_fit_is_not_tokenised(
    serve: Callable[..., Running], settings: ServingSettings, path: str, body: Any, param: str
) -> None:
    engine = StubEngine("Hello there.")
    engine.tokenizer = SlowTokenizer()
    running = serve(settings, engine)
    answer = running.http("POST", path, json={"model": "default", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["code"] == "context_length_exceeded"
    assert max(engine.tokenizer.asked, default=0) < 1000


async def test_short_work_stays_and_long_work_leaves() -> None:
    here = threading.get_ident()
    assert await off_loop(SHORT, threading.get_ident) == here
    assert await off_loop(SHORT + 1, threading.get_ident) != here
    name = await off_loop(LONG + 1, lambda: threading.current_thread().name)
    assert name.startswith("long-request")
    assert threads._long._max_workers < 8


@given(
    st.recursive(st.text() | st.integers(), lambda v: st.lists(v) | st.dictionaries(st.text(), v))
)
def test_work_grows_with_a_value(value: Any) -> None:
    written = len(json.dumps(value, ensure_ascii=False))
    assert 0 < work_of(value) <= 2 * written + 1
    assert work_of([value] * 2) > work_of(value)
    assert LONG < work_of(["x" * LONG, value]) <= LONG + 200_000


@given(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=8), st.text())
def test_the_ids_of_a_conversations_beginnings(roles: list[str], text: str) -> None:
    """As they were made from each beginning by itself: sessions on disk hold them."""
    import hashlib

    messages = [{"role": role, "content": f"{text}{i}"} for i, role in enumerate(roles)]
    for place, found in enumerate(prefix_ids(messages)):
        said = [m for m in messages[: place + 1] if m["role"] != "system"]
        whole = json.dumps(said, sort_keys=True)
        assert found == "said-" + hashlib.sha256(whole.encode()).hexdigest()[:24]


# -- streams -------------------------------------------------------------------------------------


def streamed(running: Running) -> tuple[httpx.Response, str]:
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    return answer, answer.text


def test_a_stream_says_that_it_waits(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings.model_copy(update={"keepalive_s": 0.05}), LateEngine(wait_s=0.6))
    started = time.monotonic()
    with httpx.stream(
        "POST", f"{running.url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=20
    ) as answer:
        assert answer.status_code == 200
        assert time.monotonic() - started < 0.6  # before the first token
        text = "".join(answer.iter_text())
    role, waiting = text.split("\n\n")[:2]
    assert '"role":"assistant"' in role  # at once
    assert waiting == ": waiting"
    assert text.endswith("data: [DONE]\n\n")
    said = "".join(c.choices[0].delta.content or "" for c in running.say(stream=True))
    assert said == "Hello there."  # OpenAI's client passes over comments


@pytest.mark.parametrize("after", [0, 3])
def test_an_error_nobody_foresaw_ends_a_stream_in_an_error(
    serve: Callable[..., Running], settings: ServingSettings, after: int
) -> None:
    running = serve(settings, LateEngine(error=RuntimeError("secret detail"), after=after))
    if after == 0:
        with pytest.raises(openai.InternalServerError):
            running.say()
    with pytest.raises(openai.InternalServerError):
        list(running.say(stream=True)) if after == 0 else running.say()
    if after:
        answer, text = streamed(running)
        assert answer.status_code == 200
        last = json.loads(text.strip().split("data: ")[-1])
        assert (last["error"]["code"], last["error"]["type"]) == ("engine_error", "api_error")
        assert "[DONE]" not in text
        assert "secret" not in text
    assert running.http("GET", "/healthz").status_code == 200
    assert not running.engine.running


def test_an_error_while_recording_is_told_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(running.service.spool, "submit", broken)
    _, text = streamed(running)
    assert '"code":"internal_error"' in text
    assert "[DONE]" not in text
    whole = running.http("POST", "/v1/chat/completions", json=CHAT)
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "internal_error")
