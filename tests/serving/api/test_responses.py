"""/v1/responses with OpenAI's client: whole and streamed, gone on from, read again, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
import redis
from burnish.feedback.ids import check_interaction_id
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.api.test_around import prompt_of
from tests.serving.conftest import Running

CALL = '<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call>'
ADD: Any = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


@pytest.fixture
def start(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> Callable[..., Running]:
    def start(reply: str = "Hello there.", **more: Any) -> Running:
        update = {"redis_url": redis_url, **more}
        return serve(settings.model_copy(update=update), StubEngine(reply))

    return start


def ask(running: Running, said: Any = "Hi", **options: Any) -> Any:
    return running.openai.responses.create(model="default", input=said, **options)


def test_an_answer_has_an_id_that_feedback_is_given_by(start: Callable[..., Running]) -> None:
    running = start()
    running.service.forwarder.stop()
    answer = ask(running, instructions="Be brief.", user="ada", metadata={"k": "v"})
    assert (answer.status, answer.output_text, answer.error) == ("completed", "Hello there.", None)
    assert answer.id.startswith("resp_")
    assert check_interaction_id(running.service.secret, "local", answer.id)
    thumb = {"interaction_id": answer.id, "name": "thumbs", "value": "up"}
    assert running.http("POST", "/v1/feedback", json=thumb).status_code == 202
    (event,) = running.recorded()[:1]
    assert (event.id, event.user) == (answer.id, "ada")
    assert event.metadata == {"k": "v", "endpoint": "responses", "thinking": False}
    assert event.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert answer.usage.total_tokens == answer.usage.input_tokens + 12


def test_a_stream_tells_every_item_and_ends_as_the_whole(start: Callable[..., Running]) -> None:
    running = start(f"<think>hm</think>Well. {CALL}")
    events = list(ask(running, "?", tools=[ADD], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if not event.type.endswith(".delta")]
    part = ["response.content_part.added", "response.content_part.done"]
    item = ["response.output_item.added", "response.output_item.done"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        *(item[0], part[0], "response.reasoning_text.done", part[1], item[1]),
        *(item[0], part[0], "response.output_text.done", part[1], item[1]),
        *(item[0], "response.function_call_arguments.done", item[1]),
        "response.completed",
    ]
    final: Any = events[-1]
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [part.to_dict() for part in done] == [part.to_dict() for part in final.response.output]
    thought, said, call = final.response.output
    assert (thought.content[0].text, said.content[0].text) == ("hm", "Well.")
    assert (call.name, call.arguments) == ("add", '{"a": 2, "b": 3}')
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call.arguments
    assert len(pieces) > 1


def test_a_response_is_gone_on_from_and_its_calls_answered(start: Callable[..., Running]) -> None:
    running = start(CALL)
    first = ask(running, "What is 2 + 3?", tools=[ADD], instructions="Use tools.")
    running.engine.reply = "Five."
    result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "5"}
    second = ask(running, [result], previous_response_id=first.id, tools=[ADD])
    assert second.previous_response_id == first.id
    prompt = prompt_of(running)
    assert "What is 2 + 3?" in prompt
    assert "tool: 5" in prompt
    assert "Use tools." not in prompt  # instructions are of one request
    third = ask(running, "Thanks.", previous_response_id=second.id)
    prompt = prompt_of(running)
    assert prompt.index("2 + 3") < prompt.index("tool: 5") < prompt.index("Five.")
    assert third.session_id == first.session_id == first.id
    steps = running.http("GET", f"/v1/memory/sessions/{first.id}/stats").json()["steps"]
    assert steps == 6


def test_two_answers_may_go_on_from_one(start: Callable[..., Running]) -> None:
    running = start("Pick one.")
    first = ask(running, "Left or right?")
    left = ask(running, "Left.", previous_response_id=first.id)
    right = ask(running, "Right.", previous_response_id=first.id)
    assert left.session_id == first.id
    assert right.session_id == right.id
    ask(running, "And then?", previous_response_id=right.id)
    assert "Right." in prompt_of(running)
    assert "Left." not in prompt_of(running)
    steps = running.http("GET", f"/v1/memory/sessions/{right.id}/stats").json()["steps"]
    assert steps == 6  # with what was said before


def test_it_is_read_again_listed_and_deleted(start: Callable[..., Running]) -> None:
    running = start()
    client = running.openai.responses
    answer = ask(running, [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}])
    assert client.retrieve(answer.id).to_dict() == answer.to_dict()
    items = client.input_items.list(answer.id, order="asc", limit=1)
    (one,) = items.data
    assert one.content[0].text == "One"  # type: ignore[union-attr]
    assert items.has_more
    assert [item.content[0].text for item in client.input_items.list(answer.id)] == ["Two", "One"]  # type: ignore[union-attr]
    again = ask(running, [{"type": "item_reference", "id": answer.output[0].id}, *says("So?")])
    assert "assistant: Hello there." in prompt_of(running)
    client.delete(answer.id)
    for gone in (lambda: client.retrieve(answer.id), lambda: client.delete(answer.id)):
        with pytest.raises(openai.NotFoundError):
            gone()
    with pytest.raises(openai.BadRequestError) as caught:
        ask(running, "More", previous_response_id=answer.id)
    assert caught.value.code == "previous_response_not_found"
    assert client.retrieve(again.id).id == again.id


def says(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_what_is_not_stored_is_not_there(start: Callable[..., Running]) -> None:
    running = start()
    answer = ask(running, store=False)
    assert answer.store is False
    with pytest.raises(openai.NotFoundError):
        running.openai.responses.retrieve(answer.id)


def test_forgetting_a_person_forgets_their_responses(start: Callable[..., Running]) -> None:
    running = start()
    hers, his = ask(running, user="ada"), ask(running, user="bob")
    running.http("POST", "/v1/memory/forget", json={"user": "ada"})
    with pytest.raises(openai.NotFoundError):
        running.openai.responses.retrieve(hers.id)
    assert running.openai.responses.retrieve(his.id).id == his.id


def test_without_redis_it_answers_and_says_that_nothing_was_stored(running: Running) -> None:
    answer = ask(running)
    assert (answer.output_text, answer.store) == ("Hello there.", False)
    with running.openai.responses.stream(model="default", input="Hi") as stream:
        final = stream.get_final_response()
    assert (final.output_text, final.store) == ("Hello there.", False)  # type: ignore[attr-defined]


@pytest.mark.parametrize("store", [True, False])
def test_a_conversation_too_long_is_compacted_if_asked(
    start: Callable[..., Running], store: bool
) -> None:
    running = start("Noted.")
    items = [item for n in range(60) for item in (*says(f"Chapter {n} is about rain."), ANSWERED)]
    items += says("What is chapter 7 about?")
    with pytest.raises(openai.BadRequestError) as caught:
        ask(running, items, store=store)
    error: Any = caught.value.body
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
    assert "'input'" in error["message"]
    answer = ask(running, items, truncation="auto", store=store)
    assert answer.truncation == "auto"
    assert "Chapter 7 is about rain." in prompt_of(running)
    assert answer.usage.input_tokens < 2000


ANSWERED = {"role": "assistant", "content": "Noted."}


def test_an_answer_at_its_limit_is_incomplete(running: Running) -> None:
    answer = ask(running, max_output_tokens=5)
    assert (answer.status, answer.output[0].status) == ("incomplete", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"
    with running.openai.responses.stream(
        model="default", input="Hi", max_output_tokens=5
    ) as stream:
        last = list(stream)[-1]
    assert last.type == "response.incomplete"


def test_log_probabilities_are_told_if_asked(running: Running) -> None:
    answer = ask(running, include=["message.output_text.logprobs"], top_logprobs=2)
    told = answer.output[0].content[0].logprobs
    assert "".join(each.token for each in told) == "Hello there."
    assert len(told[0].top_logprobs) == 2
    assert ask(running).output[0].content[0].logprobs == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"input": 3}, "input"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "tool_choice": "required"}, None),
        (
            {"input": "x", "tool_choice": {"type": "function", "name": "g"}, "tools": [ADD]},
            "tool_choice",
        ),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"input": "x", "temprature": 1}, "temprature"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": "x", "session_id": ""}, "session_id"),
    ],
)
def test_bad_input_names_the_field(
    start: Callable[..., Running], body: dict[str, Any], param: str | None
) -> None:
    answer = start().http("POST", "/v1/responses", json={"model": "default", **body})
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_a_stream_that_fails_says_so_twice(running: Running) -> None:
    running.engine.fails_after = 3
    answer = running.http(
        "POST", "/v1/responses", json={"model": "default", "input": "Hi", "stream": True}
    )
    kinds = [line[7:] for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds[-2:] == ["error", "response.failed"]
    assert "[DONE]" not in answer.text
    with pytest.raises(openai.APIError, match="fails_after"):
        list(ask(running, stream=True))


def test_tokens_are_counted_without_an_answer(running: Running) -> None:
    counted = running.openai.responses.input_tokens.count(model="default", input="Hi")
    assert counted.input_tokens == ask(running).usage.input_tokens
    assert len(running.engine.requests) == 1


def test_allowed_tools_are_all_that_the_model_sees(running: Running) -> None:
    tools = [ADD, {**ADD, "name": "subtract"}]
    named = [{"type": "function", "name": "subtract"}]
    choice = {"type": "allowed_tools", "mode": "auto", "tools": named}
    answer = ask(running, tools=tools, tool_choice=choice)
    assert prompt_of(running).startswith("tools: ['subtract']")
    assert len(answer.tools) == 2
