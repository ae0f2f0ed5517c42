"""/v1/messages in Anthropic's shape: whole and streamed, tools, thinking, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.api.test_around import prompt_of
from tests.serving.conftest import Running

ASKED: dict[str, Any] = {
    "model": "default",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL = {"name": "add", "input_schema": {"type": "object", "properties": {"a": {}}}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'


def ask(running: Running, **body: Any) -> Any:
    answer = running.http("POST", "/v1/messages", json={**ASKED, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(running: Running, **body: Any) -> list[dict[str, Any]]:
    answer = running.http("POST", "/v1/messages", json={**ASKED, "stream": True, **body})
    events = []
    for written in answer.text.strip().split("\n\n"):
        name, data = written.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def test_an_answer_has_an_id_that_feedback_is_given_by(running: Running) -> None:
    running.service.forwarder.stop()
    answer = ask(running, system="Be brief.", metadata={"user_id": "ada"})
    assert (answer["type"], answer["role"]) == ("message", "assistant")
    assert answer["content"] == [{"type": "text", "text": "Hello there."}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)
    assert answer["usage"]["output_tokens"] == 12
    thumb = {"interaction_id": answer["id"], "name": "thumbs", "value": "down"}
    assert running.http("POST", "/v1/feedback", json=thumb).status_code == 202
    event = running.recorded()[0]
    assert (event.id, event.user, event.metadata["endpoint"]) == (answer["id"], "ada", "messages")
    assert [message["role"] for message in event.messages] == ["system", "user"]


def test_a_stream_tells_blocks_in_order(running: Running) -> None:
    running.engine.reply = f"<think>hm</think>Well. {CALL}"
    events = stream(running, tools=[TOOL])
    kinds = [event["type"] for event in events if event["type"] != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert kinds == ["message_start", "ping", *3 * block, "message_delta", "message_stop"]
    begun = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert begun == ["thinking", "text", "tool_use"]
    deltas = [(e["index"], e["delta"]) for e in events if e["type"] == "content_block_delta"]
    told = ["", "", ""]
    for place, delta in deltas:
        told[place] += delta[("thinking", "text", "partial_json")[place]]
    assert told == ["hm", "Well.", '{"a": 2}']
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == len(running.engine.reply)


def test_a_call_is_made_and_answered(running: Running) -> None:
    running.engine.reply = CALL
    (call,) = ask(running, tools=[TOOL])["content"]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "add", {"a": 2})
    running.engine.reply = "Two."
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "2"}
    said = [
        *ASKED["messages"],
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, {"type": "text", "text": "Go on."}]},
    ]
    assert ask(running, messages=said, tools=[TOOL])["content"][0]["text"] == "Two."
    assert "tool: 2<|end|>\nuser: Go on." in prompt_of(running)
    failed = {**result, "is_error": True}
    ask(running, messages=[*said[:-1], {"role": "user", "content": [failed]}], tools=[TOOL])
    assert "tool: Error: 2<|end|>" in prompt_of(running)


def test_a_stop_sequence_is_named(running: Running) -> None:
    answer = ask(running, stop_sequences=["there", "!"])
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "there")
    assert stream(running, stop_sequences=["there"])[-2]["delta"]["stop_sequence"] == "there"
    assert ask(running, max_tokens=3)["stop_reason"] == "max_tokens"


def test_thinking_has_a_budget(running: Running) -> None:
    ask(running, thinking={"type": "enabled", "budget_tokens": 40})
    assert running.engine.requests[-1].params.thinking.budget == 40
    ask(running, thinking={"type": "adaptive"}, output_config={"effort": "low"})
    assert running.engine.requests[-1].params.thinking.budget == 20
    ask(running, thinking={"type": "disabled"})
    assert running.engine.requests[-1].params.thinking is None


def test_what_an_agent_sends_beside_its_question_is_taken(running: Running) -> None:
    cached = {"type": "ephemeral"}
    answer = ask(
        running,
        system=[{"type": "text", "text": "You help.", "cache_control": cached}],
        max_tokens=32_000,
        metadata={"user_id": "user_1"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        tools=[
            {
                "name": "Read",
                "description": "Reads a file",
                "input_schema": {
                    "$schema": "http://json-schema.org/draft-07/schema#",
                    "type": "object",
                    "properties": {"path": {"type": "string"}},
                },
                "cache_control": cached,
            }
        ],
    )
    assert answer["content"][0]["text"] == "Hello there."


def test_tokens_are_counted_without_an_answer(running: Running) -> None:
    body = {key: ASKED[key] for key in ("model", "messages")}
    counted = running.http("POST", "/v1/messages/count_tokens", json=body).json()
    assert counted == {"input_tokens": ask(running)["usage"]["input_tokens"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0]",
        ),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
        ({"tool_choice": {"type": "any"}}, None),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management.edits[0].type",
        ),
        ({"temprature": 1}, "temprature"),
        ({"model": "other"}, "model"),
    ],
)
def test_bad_input_names_the_field_in_anthropics_shape(
    running: Running, body: dict[str, Any], param: str | None
) -> None:
    answer = running.http("POST", "/v1/messages", json={**ASKED, **body})
    told = answer.json()
    assert answer.status_code in (400, 404)
    assert told["type"] == "error"
    assert told["error"]["type"] in ("invalid_request_error", "not_found_error")
    assert told["error"]["param"] == param, answer.text


def test_a_stream_that_fails_ends_in_an_error(running: Running) -> None:
    running.engine.fails_after = 3
    last = stream(running)[-1]
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")


def test_a_key_may_be_sent_in_anthropics_header(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    from burnish.serving.api.keys import KeyStore

    key = KeyStore(settings.data_dir / "keys.sqlite").create("acme", ("chat",))
    running = serve(settings, StubEngine("Hello."))

    def post(key: str) -> httpx.Response:
        return httpx.post(f"{running.url}/v1/messages", json=ASKED, headers={"x-api-key": key})

    assert post(key).json()["content"][0]["text"] == "Hello."
    refused = post("wrong")
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
