"""Requests put together from all kinds of wrong values: a 4xx that names the field, never a bug."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.serving.conftest import Running

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "default",
        "messages": [{"role": "user", "content": "Hi"}],
        "seed": 1,
        "n": 1,
        "max_tokens": 2,
        "stop": ["x"],
        "reasoning_effort": "low",
        "thinking_token_budget": 3,
        "logit_bias": {"1": 1},
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    },
    "/v1/completions": {"model": "default", "prompt": "Hi", "max_tokens": 2, "logprobs": 1},
    "/v1/feedback": {
        "session_id": "s",
        "name": "thumbs",
        "value": "up",
        "choice": 0,
        "user": "u",
        "metadata": {"a": [1]},
    },
    "/v1/policies/default/promote": {"version": 1},
}  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"items": value}
    return value


wrong = st.one_of(
    st.integers(2**63, 2**80) | st.integers(-(2**80), -(2**63)),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e308, -0.0]),
    st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3),
    st.just("a\0b"),
    st.text(max_size=10),
    st.integers(60, 900).map(nested),
    st.none() | st.booleans() | st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    st.integers(300, 70_000).map(lambda n: "y" * n),
)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    members = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, member in members:
        yield from places(member, (*path, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    path = draw(st.sampled_from(sorted(BODIES)))
    body: Any = BODIES[path]
    for _ in range(draw(st.integers(1, 2))):
        body = replaced(body, draw(st.sampled_from(sorted(places(body), key=str))), draw(wrong))
    return path, body


def test_nothing_that_is_sent_is_a_bug(serve: Any, settings: ServingSettings) -> None:
    running: Running = serve(settings, StubEngine("Hello there."))
    check(running)
    assert running.say("Hi").choices[0].message.content == "Hello there."
    assert running.http("GET", "/readyz").status_code == 200


def check(running: Running) -> None:
    @examples(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        database=None,
    )
    @given(requests(), st.booleans())
    def holds(asked: tuple[str, Any], stream: bool) -> None:
        path, body = asked
        if stream and "completions" in path and isinstance(body, dict):
            body = {**body, "stream": True}
        headers = {"Content-Type": "application/json"}
        answer = running.http("POST", path, content=json.dumps(body).encode(), headers=headers)
        assert answer.status_code < 500, answer.text
        assert "error" not in answer.text[:20] or answer.status_code >= 400
        if answer.status_code == 200 and stream and "completions" in path:
            assert answer.text.endswith("data: [DONE]\n\n"), answer.text[-300:]
        if answer.status_code >= 400:
            assert answer.json()["error"]["code"]

    holds()
