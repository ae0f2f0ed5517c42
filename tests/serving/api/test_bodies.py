"""What no route ever sees: text that is no text, JSON that nothing behind could take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import MAX_DEPTH, Route, check, parse
from burnish.serving.app import bare_app
from burnish.serving.settings import ServingSettings
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running

HALF = "hi \ud83d"
CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
THUMB = {"session_id": "s", "name": "thumbs", "value": "up"}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"properties": value}
    return value


def tool(parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


CASES = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": HALF}]}, "messages[0].content"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]}, "messages[0].content[0].text"),
    ("/v1/chat/completions", {"stop": HALF}, "stop"),
    ("/v1/chat/completions", {"stop": ["a", HALF]}, "stop[1]"),
    ("/v1/chat/completions", {"metadata": {"k": HALF}}, "metadata.k"),
    ("/v1/chat/completions", {"metadata": {HALF: "v"}}, "metadata"),
    ("/v1/chat/completions", {"model": HALF}, "model"),
    ("/v1/chat/completions", {"user": HALF}, "user"),
    ("/v1/chat/completions", {"session_id": HALF}, "session_id"),
    ("/v1/chat/completions", {"user": "a\0b"}, "user"),
    ("/v1/chat/completions", {"tools": [tool({"description": HALF})]}, "tools[0].function.parameters.description"),
    ("/v1/chat/completions", {"tools": [tool(nested(900))]}, "tools"),
    ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": nested(900)}}}, "response_format"),
    ("/v1/chat/completions", {"tools": [tool({"maximum": 2**70})]}, "tools[0].function.parameters.maximum"),
    ("/v1/completions", {"prompt": HALF}, "prompt"),
    ("/v1/feedback", {"interaction_id": HALF}, "interaction_id"),
    ("/v1/feedback", {"name": "comment", "value": HALF}, "value"),
    ("/v1/feedback", {"name": "comment", "value": "a\0b"}, "value"),
    ("/v1/feedback", {"metadata": {"a": [[HALF]]}}, "metadata.a[0][0]"),
    ("/v1/feedback", {"metadata": nested(900)}, "metadata"),
    ("/v1/policies/default/promote", {"version": HALF}, "version"),
    ("/v1/learner/update", {"policy": HALF}, "policy"),
    ("/v1/memory/sessions/s/events", {"events": [{"role": "user", "content": HALF}]}, "events[0].content"),
    ("/v1/memory/sessions/s/compact", {"budget": 9, "query": HALF}, "query"),
    ("/v1/memory/sessions/s/expand", {"cursors": [HALF]}, "cursors[0]"),
    ("/v1/memory/records", {"text": HALF}, "text"),
    ("/v1/memory/forget", {"user": HALF}, "user"),
    ("/v1/memory/tool", {"input": {"command": "view", "path": HALF}}, "input.path"),
    ("/v1/responses/compact", {"input": [{"role": "user", "content": HALF}]}, "input[0].content"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields", "param"), CASES)
@pytest.mark.parametrize("stream", [False, True])
def test_it_is_refused_by_name(
    running: Running, path: str, fields: dict[str, Any], param: str, stream: bool
) -> None:
    whole = {"/v1/feedback": THUMB, "/v1/chat/completions": CHAT}.get(path, {})
    asked = {**whole, **fields} | ({"stream": True} if "completions" in path and stream else {})
    answer = running.http(
        "POST",
        path,
        content=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert running.engine.requests == []


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("GET", "/v1/feedback?session_id=a%00b", "session_id"),
        ("GET", "/v1/memory/sessions/a%00b/stats", "session_id"),
        ("GET", "/v1/memory/records?user=%00", "user"),
        ("DELETE", "/v1/memory/records/%00", "record_id"),
        ("GET", "/v1/models/%00", "model"),
    ],
)
def test_paths_and_queries_too(running: Running, method: str, path: str, param: str) -> None:
    answer = running.http(method, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("name", ["%00", "x" * 5000, "..%2f..%2fsettings.py", "%ed%a0%bd", "a/b"])
def test_names_of_pages_that_are_none(running: Running, name: str) -> None:
    assert running.http("GET", f"/static/{name}").status_code in (400, 404)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "\xed\xa0\xbd"}',
        b"\xff\xfe{\x00}\x00",
        b"{",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b"",
        b"null",
        b'"text"',
    ],
)
def test_bodies_that_are_no_requests(running: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = running.http("POST", "/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in (
        "invalid_json",
        "invalid_value",
        "missing_required_parameter",
    )


def test_every_route_checks(tmp_path: Any) -> None:
    """A router made without our class of route would pass everything on."""
    seen: list[APIRoute] = []

    def walk(routes: Any) -> None:
        for route in routes:
            if isinstance(route, APIRoute):
                seen.append(route)
            walk(getattr(getattr(route, "original_router", None), "routes", ()))

    walk(bare_app(ServingSettings(data_dir=tmp_path)).routes)
    assert len(seen) > 40
    assert [route.path for route in seen if not isinstance(route, Route)] == []


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves | st.text(st.characters(categories=["Cs", "Cc", "L"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_passes_can_be_written_again_and_stored(value: Any) -> None:
    try:
        check(value)
    except ApiError:
        return
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert parse(text.encode("utf-8")) == value


@given(st.integers(1, 3 * MAX_DEPTH), st.booleans())
def test_nesting_has_one_limit(depth: int, as_list: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    if depth <= MAX_DEPTH:
        check(value)
    else:
        with pytest.raises(ApiError):
            check(value)
