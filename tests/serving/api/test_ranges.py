"""Everything that clients can send is bounded, and what is out of bounds is a 400 that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from burnish.serving.app import bare_app
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
THUMB = {"session_id": "s", "name": "thumbs", "value": "up"}
HUGE = 10**20


def unbounded(schema: Any, place: str) -> Iterator[str]:
    """Places in a JSON Schema that take numbers without limits or texts of any length."""
    if isinstance(schema, list):
        for i, inner in enumerate(schema):
            yield from unbounded(inner, f"{place}[{i}]")
    if not isinstance(schema, dict):
        return
    fixed = "enum" in schema or "const" in schema
    kind = schema.get("type")
    if kind in ("integer", "number") and not fixed:
        low = "minimum" in schema or "exclusiveMinimum" in schema
        if not (low and ("maximum" in schema or "exclusiveMaximum" in schema)):
            yield f"{place}: {kind} without limits"
    if kind == "string" and not fixed and "maxLength" not in schema:
        yield f"{place}: text without maxLength"
    if kind == "array" and "maxItems" not in schema:
        yield f"{place}: array without maxItems"
    for name, inner in schema.items():
        if name not in ("examples", "default"):
            yield from unbounded(inner, f"{place}.{name}")


def test_every_number_and_text_that_is_taken_has_a_limit(tmp_path: Path) -> None:
    document = bare_app(ServingSettings(data_dir=tmp_path)).openapi()
    asked: dict[str, Any] = {
        name: schema
        for name, schema in document["components"]["schemas"].items()
        if name not in ("HTTPValidationError", "ValidationError")
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asked[f"{method} {path} parameters"] = operation.get("parameters", [])
            asked[f"{method} {path} body"] = operation.get("requestBody", {})
    assert len(asked) > 60
    assert [found for name, schema in asked.items() for found in unbounded(schema, name)] == []


def test_the_walk_sees_what_has_no_limit() -> None:
    forgotten = {"properties": {"n": {"type": "integer"}, "s": {"anyOf": [{"type": "string"}]}}}
    assert len(list(unbounded(forgotten, ""))) == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", "thinking_token_budget": HUGE}, "thinking_token_budget"),
        ({"seed": HUGE}, "seed"),
        ({"seed": -HUGE}, "seed"),
        ({"n": HUGE}, "n"),
        ({"top_k": HUGE}, "top_k"),
        ({"max_tokens": HUGE}, "max_tokens"),
        ({"max_completion_tokens": HUGE}, "max_completion_tokens"),
        ({"logit_bias": {str(HUGE): 1}}, f"logit_bias.{HUGE}"),
        ({"logit_bias": {"1": 1e300}}, "logit_bias.1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"timeout": float("inf")}, "timeout"),
        ({"logit_bias": {"1": float("-inf")}}, "logit_bias.1"),
        ({"model": "m" * 300}, "model"),
        ({"user": "u" * 300}, "user"),
        ({"session_id": "s" * 300}, "session_id"),
        ({"session_id": ""}, "session_id"),
        ({"stop": "x" * 2000}, "stop"),
        ({"stop": ["x" * 2000]}, "stop[0]"),
        ({"metadata": {"k": "v" * 2000}}, "metadata.k"),
        ({"metadata": {str(i): "" for i in range(100)}}, "metadata"),
        ({"messages": [{"role": "user", "content": "Hi", "name": "n" * 300}]}, "messages[0].name"),
        ({"messages": [{"role": "tool", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [1] * 1000}, "messages[0]"),
    ],
)  # fmt: skip
def test_what_a_chat_may_not_ask(running: Running, fields: dict[str, Any], param: str) -> None:
    assert refused(running, "/v1/chat/completions", {**CHAT, **fields}) == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [HUGE]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": "a", "logprobs": HUGE}, "logprobs"),
    ],
)
def test_what_a_completion_may_not_ask(
    running: Running, fields: dict[str, Any], param: str
) -> None:
    assert refused(running, "/v1/completions", {"model": "default", **fields}) == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"choice": 2**70}, "choice"),
        ({"choice": 128}, "choice"),
        ({"value": HUGE}, "value"),
        ({"name": "score", "value": float("nan")}, "value"),
        ({"id": "i" * 300}, "id"),
        ({"user": "u" * 300}, "user"),
        ({"rationale": "r" * 20_000}, "rationale"),
        ({"metadata": {"n": 2**64}}, "metadata.n"),
        ({"metadata": {"n": [float("inf")]}}, "metadata.n[0]"),
    ],
)
def test_what_a_judgement_may_not_say(running: Running, fields: dict[str, Any], param: str) -> None:
    assert refused(running, "/v1/feedback", {**THUMB, **fields}) == param
    assert running.http("POST", "/v1/feedback", json=THUMB).status_code == 202  # the writer lives


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("GET", f"/v1/memory/sessions/s/context?budget=9&version={HUGE}", None, "version"),
        ("GET", f"/v1/memory/sessions/s/context?budget={HUGE}", None, "budget"),
        ("GET", f"/v1/memory/sessions/s/events?version={HUGE}", None, "version"),
        ("GET", "/v1/memory/sessions/s/events?after=" + "9" * 300, None, "after"),
        ("GET", "/v1/memory/sessions/" + "s" * 2000 + "/stats", None, "session_id"),
        ("GET", "/v1/memory/records?as_of=1e300", None, "as_of"),
        ("GET", "/v1/memory/records?as_of=nan", None, "as_of"),
        ("GET", f"/v1/policies/default/versions/{HUGE}", None, "version"),
        ("GET", f"/v1/learner?limit={HUGE}", None, "limit"),
        ("GET", "/v1/models/" + "m" * 300, None, "model"),
        ("DELETE", "/v1/feedback/" + "f" * 300, None, "feedback_id"),
        ("POST", "/v1/policies/default/promote", {"version": HUGE}, "version"),
        ("POST", "/v1/memory/sessions/s/compact", {"budget": HUGE}, "budget"),
        ("POST", "/v1/memory/sessions/s/undo", {"version": HUGE}, "version"),
        ("POST", "/v1/memory/sessions/s/delete", {"cursors": ["1"], "grace_s": 1e300}, "grace_s"),
        ("POST", "/v1/memory/records", {"text": "t", "valid_from": 1e300}, "valid_from"),
        ("POST", "/v1/memory/records", {"text": "t", "if_version": HUGE}, "if_version"),
        ("POST", "/v1/memory/forget", {"policy": "expired", "keep": HUGE}, "keep"),
        ("POST", "/v1/responses/compact", {"input": "x", "budget": HUGE}, "budget"),
    ],
)  # fmt: skip
def test_what_paths_and_queries_and_bodies_may_not_name(
    running: Running, method: str, path: str, body: Any, param: str
) -> None:
    assert refused(running, path, body, method) == param


def refused(running: Running, path: str, body: Any, method: str = "POST") -> str:
    """The field that a 400 names. NaN and Infinity are sent as Python writes them."""
    answer = send(running.http, method, path, body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["param"]


def send(http: Callable[..., Any], method: str, path: str, body: Any) -> Any:
    import json

    if body is None:
        return http(method, path)
    headers = {"Content-Type": "application/json"}
    return http(method, path, content=json.dumps(body).encode(), headers=headers)
