"""What is refused, and how: every 4xx names what is wrong, in OpenAI's error shape."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from burnish.serving.api.auth import KeyStore

from tests.serving.conftest import Running
from tests.waiting import eventually

CHAT = {"model": "default", "messages": [{"role": "user", "content": "Hi"}]}


def refused(running: Running, status: int, path: str = "/v1/chat/completions", **body: Any) -> dict:
    answer = running.http("POST", path, json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("modalities", ["text", "audio"]),
        ("functions", [{"name": "f"}]),
        ("web_search_options", {}),
    ],
)
def test_a_parameter_we_do_not_do_is_named(running: Running, param: str, value: Any) -> None:
    error = refused(running, 400, **CHAT, **{param: value})
    assert error["param"] == param
    assert error["code"] == "unsupported_parameter"
    assert error["type"] == "invalid_request_error"


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("timeout", {"timeout": 0}),
        ("logprobs_mode", {"logprobs_mode": "cooked"}),
        ("thinking_token_budget", {"thinking_token_budget": -1, "reasoning_effort": "low"}),
        (
            "tool_choice",
            {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
        ),
    ],
)
def test_a_form_that_cannot_be_followed_is_named(
    running: Running, param: str, body: dict[str, Any]
) -> None:
    assert refused(running, 400, **CHAT, **body)["param"] == param


def test_a_budget_for_thinking_that_is_not_asked_for(running: Running) -> None:
    told = refused(running, 400, **CHAT, thinking_token_budget=5)
    assert "needs a reasoning_effort" in told["message"]


def test_values_that_ask_for_nothing_are_fine(running: Running) -> None:
    harmless = {"response_format": {"type": "text"}, "store": True, "modalities": ["text"]}
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, **harmless, "seed": None})
    assert answer.status_code == 200


def test_an_unknown_field_is_named(running: Running) -> None:
    error = refused(running, 400, **CHAT, temprature=0.5)
    assert (error["param"], error["code"]) == ("temprature", "unknown_parameter")
    assert "temprature" in error["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 3),
        ("top_p", 0),
        ("n", 0),
        ("max_tokens", 0),
        ("stop", [""]),
        ("logit_bias", {"999999": 1}),
        ("top_logprobs", 21),
        ("reasoning_effort", "enormous"),
        ("response_format", {"type": "json_schema"}),
        ("tool_choice", "sometimes"),
        ("messages", []),
    ],
)
def test_a_value_out_of_range_is_named(running: Running, field: str, value: Any) -> None:
    assert refused(running, 400, **{**CHAT, field: value})["param"] == field


def test_missing_fields_and_broken_json(running: Running) -> None:
    assert refused(running, 400, model="default")["param"] == "messages"
    broken = running.http(
        "POST",
        "/v1/chat/completions",
        content=b"{",
        headers={"Content-Type": "application/json"},
    )
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")


def test_images_are_refused_by_name(running: Running) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    error = refused(running, 400, model="default", messages=[{"role": "user", "content": parts}])
    assert "image_url" in error["message"]


def test_combinations_that_make_no_sense(running: Running) -> None:
    assert "logprobs" in refused(running, 400, **CHAT, top_logprobs=2)["message"]
    assert "stream" in refused(running, 400, **CHAT, stream_options={})["message"]
    lonely = [{"role": "tool", "content": "2"}]
    assert "tool_call_id" in refused(running, 400, model="default", messages=lonely)["message"]


def test_too_long_a_prompt(running: Running) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        running.say("x" * 3000)
    assert caught.value.code == "context_length_exceeded"
    assert "2000" in caught.value.message
    long_prompt = {"model": "default", "prompt": "x" * 3000}
    assert refused(running, 400, "/v1/completions", **long_prompt)["param"] == "prompt"


@pytest.mark.parametrize(
    "model", ["gpt-9", "default@99", "default@x", "default@01", "nobody@1", "@1"]
)
def test_an_unknown_model(running: Running, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        running.say("Hi", model=model)
    assert caught.value.code == "model_not_found"


def test_a_full_queue_says_when_to_come_back(running: Running) -> None:
    running.engine.max_requests = 0
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as caught:
            running.say("Hi", stream=stream)
        assert caught.value.response.headers["retry-after"] == "1"
    running.engine.max_requests = 2
    with pytest.raises(openai.RateLimitError):
        running.say("Hi", n=3)
    eventually(lambda: not running.engine.running)


def test_a_full_spool_costs_the_record_and_not_the_answer(running: Running) -> None:
    running.service.spool.max_bytes = 1
    assert running.say("Hi").choices[0].message.content == "Hello there."
    answer = running.http("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
    assert '"finish_reason":"stop"' in answer.text
    assert "[DONE]" in answer.text
    assert running.recorded() == []
    ready = running.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["unrecorded"]) == (200, 2)
    metrics = running.http("GET", "/metrics").text
    assert 'burnish_interactions_total{outcome="unrecorded",policy="default"} 2.0' in metrics


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"prompt": ["a", "b"], "stream": True}, "stream takes one prompt"),
        ({"prompt": ["a", ""]}, "an empty prompt"),
        ({"prompt": []}, "an empty prompt"),
        ({"prompt": [999]}, "token 999 is not in the vocabulary"),
        ({"prompt": "a", "best_of": 1, "n": 2}, "best_of is at least n"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of cannot be streamed"),
        ({"prompt": {"a": 1}}, "should be a string or a list"),
    ],
)
def test_prompts_that_cannot_be_completed(
    running: Running, body: dict[str, Any], what: str
) -> None:
    assert what in refused(running, 400, "/v1/completions", model="default", **body)["message"]


def test_an_unknown_path_has_the_same_shape(running: Running) -> None:
    answer = running.http("GET", "/v1/nothing")
    assert (answer.status_code, "message" in answer.json()["error"]) == (404, True)
    assert running.http("GET", "/v1/chat/completions").status_code == 405


def test_a_form_from_another_site_is_not_json(running: Running) -> None:
    answer = running.http(
        "POST",
        "/v1/feedback",
        content=b'{"session_id": "s", "name": "thumbs", "value": "up"}',
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code == 415


def test_keys(running: Running) -> None:
    keys = KeyStore(running.service.settings.data_dir / "keys.sqlite")
    chat_only = keys.create("acme", ["chat"])
    with pytest.raises(openai.AuthenticationError) as caught:
        running.with_key("wrong").say("Hi")
    assert caught.value.code == "invalid_api_key"
    assert running.http("GET", "/v1/models", headers={"Authorization": ""}).status_code == 401
    answer = running.with_key(chat_only).say("Hi")
    assert running.recorded()[-1].tenant == "acme"
    judged = {"interaction_id": answer.id, "name": "thumbs", "value": "up"}
    denied = running.with_key(chat_only).http("POST", "/v1/feedback", json=judged)
    assert (denied.status_code, denied.json()["error"]["code"]) == (403, "missing_scope")
    assert (
        running.with_key(chat_only).http("POST", "/v1/policies/default/rollback").status_code == 403
    )
    assert running.http("GET", "/healthz", headers={"Authorization": ""}).status_code == 200


def test_without_keys_only_loopback_names_are_answered(running: Running) -> None:
    rebound = running.http("GET", "/v1/models", headers={"Host": "evil.example"})
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize(
    ("body", "param", "what"),
    [
        ({"messages": 3}, "messages", "should be a list"),
        ({"messages": [3]}, "messages[0]", "should be an object"),
        (
            {"messages": [{"role": "user", "content": 3}]},
            "messages[0].content",
            "should be a string or a list",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
            "messages[0].content[0].text",
            "should be a string",
        ),
        ({"stop": 3}, "stop", "should be a string or a list"),
        ({"max_tokens": "many"}, "max_tokens", "should be an integer"),
        ({"temperature": "hot"}, "temperature", "should be a number"),
        ({"stream": "maybe"}, "stream", "should be a boolean"),
        ({"metadata": []}, "metadata", "should be an object"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_the_right_one(
    running: Running, body: dict[str, Any], param: str, what: str
) -> None:
    error = refused(running, 400, **{**CHAT, **body})
    assert (error["param"], error["message"]) == (param, f"Invalid value for '{param}': {what}")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"chat_template_kwargs": {"mood": "calm"}}, "chat_template_kwargs.mood"),
        (
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"},
            None,
        ),
        ({"continue_final_message": True}, None),
        ({"add_generation_prompt": False}, None),
        (
            {
                "continue_final_message": True,
                "session_id": "s",
                "messages": [{"role": "assistant", "content": "It is"}],
            },
            None,
        ),
    ],
)
def test_what_templates_and_penalties_do_not_take(
    running: Running, body: dict[str, Any], param: str | None
) -> None:
    assert refused(running, 400, **{**CHAT, **body})["param"] == param
