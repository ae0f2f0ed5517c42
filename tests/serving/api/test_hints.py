"""Hints that clients send along: accepted, without effect, and refused where they make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving.conftest import Running

CHAT: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "7"}


def asked(running: Running, body: dict[str, Any]) -> Any:
    """What the engine is asked for."""
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, "seed": 1, **body})
    assert answer.status_code == 200, answer.text
    request = running.engine.requests[-1]
    return tuple(request.prompt_ids), request.params


@pytest.mark.parametrize(
    "hint",
    [
        {"prompt_cache_key": "acme"},
        {"prompt_cache_retention": "24h"},
        {"safety_identifier": "ada"},
        {"service_tier": "flex"},
        {"verbosity": "low"},
        {"prediction": {"type": "content", "content": "def f():"}},
        {"prediction": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"store": True},
        {"top_k": -1},
    ],
    ids=lambda hint: next(iter(hint)),
)
def test_a_hint_changes_nothing(running: Running, hint: dict[str, Any]) -> None:
    assert asked(running, hint) == asked(running, {})


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ([{"role": "user", "content": "Hi", **CACHED}], CHAT["messages"]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "Hi", **CACHED}]}],
            CHAT["messages"],
        ),
        (
            [
                *CHAT["messages"],
                {
                    "id": "msg_1",
                    "role": "assistant",
                    "content": "Hello.",
                    "refusal": None,
                    "annotations": [],
                    "audio": None,
                    "function_call": None,
                    "tool_calls": None,
                },
                *CHAT["messages"],
            ],
            [*CHAT["messages"], {"role": "assistant", "content": "Hello."}, *CHAT["messages"]],
        ),
        (
            [{"role": "assistant", "content": None}, *CHAT["messages"]],
            [{"role": "assistant", "content": ""}, *CHAT["messages"]],
        ),
        (
            [{"role": "assistant"}, *CHAT["messages"]],
            [{"role": "assistant", "content": ""}, *CHAT["messages"]],
        ),
        (
            [{"role": "assistant", "tool_calls": [{"index": 0, **CALL}]}, RESULT],
            [{"role": "assistant", "tool_calls": [CALL]}, RESULT],
        ),
    ],
    ids=["message", "part", "whole answer", "null", "missing", "call"],
)
def test_what_clients_send_back_reads_the_same(
    running: Running, sent: list[dict[str, Any]], plain: list[dict[str, Any]]
) -> None:
    assert asked(running, {"messages": sent}) == asked(running, {"messages": plain})


def test_a_tools_hint_is_not_shown_to_the_model(running: Running) -> None:
    with_hint = asked(running, {"tools": [{**TOOL, **CACHED}]})
    assert with_hint == asked(running, {"tools": [TOOL]})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"verbosity": "loud"}, "verbosity"),
        ({"top_k": -2}, "top_k"),
        ({"prediction": {"type": "code", "content": "x"}}, "prediction.type"),
        ({"prompt_cache_key": 7}, "prompt_cache_key"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        (
            {
                "messages": [
                    {"role": "user", "content": "Hi", "cache_control": {"type": "for ever"}}
                ]
            },
            "messages[0].cache_control.type",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hint_that_makes_no_sense_is_named(
    running: Running, body: dict[str, Any], param: str
) -> None:
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
