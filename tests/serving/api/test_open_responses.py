"""The cases of the Open Responses compliance suite: what is asked, and the resource that answers.

Source: openresponses.org, the suite's seven cases and its schema of a response. An image is the one
thing that is refused, by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

Json = dict[str, Any]
MAY_BE_NULL = {
    "completed_at",
    "incomplete_details",
    "previous_response_id",
    "instructions",
    "error",
    "reasoning",
    "user",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
}
KINDS: dict[str, Any] = {
    "id": str,
    "object": str,
    "created_at": int,
    "status": str,
    "model": str,
    "output": list,
    "tools": list,
    "tool_choice": str | dict,
    "truncation": str,
    "parallel_tool_calls": bool,
    "text": dict,
    "top_p": int | float,
    "presence_penalty": int | float,
    "frequency_penalty": int | float,
    "top_logprobs": int,
    "temperature": int | float,
    "store": bool,
    "background": bool,
    "service_tier": str,
    "metadata": dict,
}
OF_ITEMS = {
    "message": {"type", "id", "status", "role", "content"},
    "function_call": {"type", "id", "status", "call_id", "name", "arguments"},
    "reasoning": {"type", "id", "summary"},
}
OF_TOOLS = {"type", "name", "description", "parameters", "strict"}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"location": "San Francisco"}}</tool_call>'
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather at a place",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
    },
}
GREETING = [{"type": "message", "role": "user", "content": "Say hello."}]
PIRATE = [{"type": "message", "role": "system", "content": "You are a pirate."}, *GREETING]
TALK = [
    {"type": "message", "role": "user", "content": "My name is Alice."},
    {"type": "message", "role": "assistant", "content": "Hello Alice!"},
    {"type": "message", "role": "user", "content": "What is my name?"},
]


def check_resource(response: Json) -> None:
    """Every field of the suite's schema is there and of its kind."""
    assert not {*MAY_BE_NULL, *KINDS} - response.keys()
    assert not {
        name: response[name] for name, kind in KINDS.items() if not isinstance(response[name], kind)
    }
    assert response["text"]["format"]["type"] == "text"
    for item in response["output"]:
        assert not OF_ITEMS[item["type"]] - item.keys()
    for tool in response["tools"]:
        assert not OF_TOOLS - tool.keys()


@pytest.fixture
def start(
    serve: Callable[..., Running], settings: ServingSettings, redis_url: str
) -> Callable[[str], Running]:
    def start(reply: str) -> Running:
        return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine(reply))

    return start


def ask(running: Running, **body: Any) -> Json:
    answer = running.http("POST", "/v1/responses", json={"model": "default", **body})
    assert answer.status_code == 200, answer.text
    check_resource(answer.json())
    return answer.json()


def stream(running: Running, **body: Any) -> list[Json]:
    body = {"model": "default", "stream": True, **body}
    answer = running.http("POST", "/v1/responses", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in answer.text.strip().split("\n\n"):
        named, _, data = block.partition("\ndata: ")
        if block != "data: [DONE]":
            events.append(json.loads(data))
            assert named == f"event: {events[-1]['type']}"
    return events


@pytest.mark.parametrize("said", [GREETING, PIRATE, TALK], ids=["basic", "system", "multi-turn"])
def test_a_text_is_answered(start: Callable[[str], Running], said: list[Json]) -> None:
    answer = ask(start("Ahoy there."), input=said)
    assert (answer["status"], answer["error"]) == ("completed", None)
    assert [item["type"] for item in answer["output"]] == ["message"]


def test_a_stream_ends_in_the_whole_resource(start: Callable[[str], Running]) -> None:
    events = stream(start("One, two, three."), input=GREETING)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    check_resource(events[-1]["response"])


def test_a_tool_is_called(start: Callable[[str], Running]) -> None:
    answer = ask(start(CALL), input=GREETING, tools=[WEATHER])
    assert [item["type"] for item in answer["output"]] == ["function_call"]


def test_a_call_is_streamed(start: Callable[[str], Running]) -> None:
    events = stream(start(CALL), input=GREETING, tools=[WEATHER])
    of_items = [e["type"] for e in events if e.get("item", {}).get("type") == "function_call"]
    assert of_items == ["response.output_item.added", "response.output_item.done"]
    pieces = [e for e in events if e["type"] == "response.function_call_arguments.delta"]
    (whole,) = [e for e in events if e["type"] == "response.function_call_arguments.done"]
    assert "".join(piece["delta"] for piece in pieces) == whole["arguments"]


def test_an_image_is_refused_by_name(start: Callable[[str], Running]) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    said = [{"type": "message", "role": "user", "content": [image]}]
    answer = start("?").http("POST", "/v1/responses", json={"model": "default", "input": said})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "input[0].content")
    assert "input_image" in error["message"]
