"""A chat that outgrows the model: the session is compacted by itself, and nothing is lost.

The last test has the real engine answer, embed and summarise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.serving.engine import LocalEngine, StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.api.test_around import prompt_of
from tests.serving.conftest import Running
from tests.waiting import eventually

SESSION = {"session_id": "s1"}


@pytest.fixture
def start(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> Callable[..., Running]:
    def start(engine: Any, **more: Any) -> Running:
        return serve(settings.model_copy(update={"redis_url": redis_url, **more}), engine)

    return start


class Talk:
    """A client that sends texts, a person's and the assistant's in turn."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def ask(self, *texts: str, **more: Any) -> str:
        """The answer to the last of the texts."""
        roles = ("user", "assistant")
        messages: Any = [
            {"role": roles[place % 2], "content": text} for place, text in enumerate(texts)
        ]
        answer = self.running.openai.chat.completions.create(
            model="default", messages=messages, extra_body=SESSION | more
        )
        return answer.choices[0].message.content or ""

    def steps(self) -> list[dict[str, Any]]:
        return self.running.http("GET", "/v1/memory/sessions/s1/events").json()["events"]

    def log(self) -> list[str]:
        return [step["content"] for step in self.steps()]


@pytest.fixture
def talk(start: Callable[..., Running]) -> Talk:
    return Talk(start(StubEngine("Hello there.")))


def stats(running: Running) -> dict[str, Any]:
    return running.http("GET", "/v1/memory/sessions/s1/stats").json()


def wait_for_a_plan(running: Running) -> str:
    eventually(lambda: stats(running)["plan"] is not None)
    return stats(running)["plan"]


def test_a_session_that_grows_is_compacted_and_the_answer_says_which_view_it_saw(
    start: Callable[..., Running],
):
    running = start(StubEngine("Hello there."), memory_budget=1000)
    running.say("The gate code is 4711.", extra_body=SESSION)
    for n in range(24):
        running.say(f"Tell me more about chapter {n}, please.", extra_body=SESSION)
    plan = wait_for_a_plan(running)
    running.service.forwarder.stop()  # what is recorded from now on stays to be looked at
    running.say("What is the gate code?", extra_body=SESSION)
    assert "4711" in prompt_of(running)
    event = running.recorded()[-1]
    assert event.memory is not None
    assert event.memory.session == "s1"
    assert event.memory.plan is not None
    assert int(event.memory.plan[1:]) >= int(plan[1:])
    version = event.memory.version
    seen = running.http(
        "GET",
        "/v1/memory/sessions/s1/context",
        params={"budget": 1000, "version": version, "query": "What is the gate code?"},
    ).json()
    assert [c for m in seen["messages"] for c in m["cursors"]] == event.memory.cursors
    assert event.memories == event.memory.cursors


def test_a_conversation_longer_than_the_window_goes_on(start: Callable[..., Running]):
    """The client sends everything each time; the model has 2,000 tokens."""
    running = start(StubEngine("Hello there."))
    messages: Any = [{"role": "system", "content": "Be brief."}]
    messages.append({"role": "user", "content": "The gate code is 4711."})
    for n in range(40):
        answer = running.openai.chat.completions.create(
            model="default",
            messages=messages,
            max_tokens=100,
            extra_body=SESSION,  # type: ignore
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens < 2000
        messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})
        messages.append({"role": "user", "content": f"And now about chapter {n}? " + "Well. " * 12})
    assert sum(len(message["content"]) for message in messages) > 4000
    log = running.http("GET", "/v1/memory/sessions/s1/events?limit=1000").json()["events"]
    said = [message["content"] for message in messages[1:-1]]
    assert [step["content"] for step in log] == said
    prompt = prompt_of(running)
    assert prompt.startswith("system: Be brief.")
    assert prompt.count("And now about chapter 38?") == 1


def test_a_conversation_that_fits_is_not_told_twice(start: Callable[..., Running]):
    """The session's view holds a summary, but the client sends all that it tells of."""
    running = start(StubEngine("Hello there."), memory_budget=1000)
    messages: Any = []
    for n in range(16):
        if n == 15:
            ask = {"policy": "summary", "budget": 640}
            made = running.http("POST", "/v1/memory/sessions/s1/compact", json=ask).json()
            assert made["nodes"]
        messages.append({"role": "user", "content": f"Tell me more about chapter {n}, please."})
        answer = running.openai.chat.completions.create(
            model="default", messages=messages, max_tokens=100, extra_body=SESSION
        )
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    prompt = prompt_of(running)
    assert "<summary-" not in prompt
    assert [prompt.count(f"chapter {n},") for n in range(16)] == [1] * 16
    assert stats(running)["steps"] == 32


def test_a_long_conversation_that_memory_meets_for_the_first_time_is_taken_over(
    start: Callable[..., Running],
):
    running = start(StubEngine("Hello there."))
    messages: Any = [{"role": "user", "content": "The gate code is 4711."}]
    for n in range(60):
        messages.append({"role": "assistant", "content": f"I see, {n}. " + "Well. " * 6})
        messages.append({"role": "user", "content": f"Now chapter {n}."})
    messages.append({"role": "assistant", "content": "Fine."})
    messages.append({"role": "user", "content": "What is the gate code?"})
    ask = {"model": "default", "messages": messages, "max_tokens": 100, "extra_body": SESSION}
    running.openai.chat.completions.create(**ask)
    prompt = prompt_of(running)
    assert "4711" in prompt
    assert len(prompt) < 2000
    assert stats(running)["steps"] == len(messages) + 1
    running.openai.chat.completions.create(**ask)  # again: the newer answer in place of the older
    log = running.http("GET", "/v1/memory/sessions/s1/events?limit=1000").json()["events"]
    assert len(log) == len(messages) + 1


def test_a_turn_that_is_asked_again_or_edited_replaces_the_old_one(
    start: Callable[..., Running],
):
    running = start(StubEngine("Hello there."))

    def ask(*messages: Any) -> dict:
        answer = running.openai.chat.completions.create(
            model="default", messages=messages, extra_body=SESSION
        )
        return {"role": "assistant", "content": answer.choices[0].message.content}

    def log() -> list[str]:
        steps = running.http("GET", "/v1/memory/sessions/s1/events").json()["events"]
        return [step["content"] for step in steps]

    one, two, other, three = (
        {"role": "user", "content": text} for text in ("One.", "Two.", "Two, but better.", "Three.")
    )
    hello = ask(one)
    ask(one, hello, two)
    ask(one, hello, two)  # asked again: one turn, and the newer answer
    assert log() == ["One.", "Hello there.", "Two.", "Hello there."]
    ask(one, hello, other)
    assert log() == ["One.", "Hello there.", "Two, but better.", "Hello there."]
    ask(one, hello, two)  # and back
    ask(one, hello, two, hello, three)
    assert log() == ["One.", "Hello there.", "Two.", "Hello there.", "Three.", "Hello there."]
    assert "better" not in prompt_of(running)


def test_an_answer_that_is_edited_in_the_history_replaces_the_old_one(talk: Talk):
    hello = talk.ask("One.")
    talk.ask("One.", hello, "Two.")
    talk.ask("One.", "I edited this.", "Two.", hello, "Three.")
    assert talk.log() == ["One.", "I edited this.", "Two.", hello, "Three.", hello]
    talk.ask("One.", hello, "Two.", hello, "Three.", hello, "Four.")  # and back
    assert talk.log() == ["One.", hello, "Two.", hello, "Three.", hello, "Four.", hello]
    assert "edited" not in prompt_of(talk.running)


def test_a_first_turn_that_is_edited_replaces_all_where_the_client_says_that_it_sends_all(
    talk: Talk,
):
    hello = talk.ask("One.", session_history="whole")
    talk.ask("One.", hello, "Two.", session_history="whole")
    talk.ask("One, but better.", session_history="whole")
    assert talk.log() == ["One, but better.", hello]
    talk.ask("One, but better.", session_history="whole")  # asked again
    assert talk.log() == ["One, but better.", hello]
    talk.ask("One.", session_history="whole")  # and back
    assert talk.log() == ["One.", hello]
    talk.ask("Two.")  # without that word it is a next turn
    assert talk.log() == ["One.", hello, "Two.", hello]


def test_a_history_of_which_only_a_part_is_sent_replaces_nothing(talk: Talk):
    hello = "Hello there."
    said: list[str] = []
    for n in range(6):
        said.append(f"Turn {n}.")
        talk.ask(*(said if n % 2 else [said[0], *said[-4:]] if n else said))
        said.append(hello)
    talk.ask(*said[-2:], "The last turn.")
    assert talk.log() == [*said, "The last turn.", hello]


def test_the_space_around_an_answer_is_no_edit(talk: Talk):
    hello = talk.ask("One.")
    first = talk.steps()[1]["cursor"]
    talk.ask("One.", f"{hello}\n", "Two.")
    assert talk.steps()[1]["cursor"] == first
    assert talk.log() == ["One.", hello, "Two.", hello]


def test_session_history_without_a_session_is_refused(talk: Talk):
    ask = {"model": "default", "messages": [{"role": "user", "content": "One."}]}
    answer = talk.running.http(
        "POST", "/v1/chat/completions", json=ask | {"session_history": "whole"}
    )
    assert answer.status_code == 400
    assert "session_id" in answer.json()["error"]["message"]


def test_steps_that_others_append_are_not_taken_for_an_old_turn(start: Callable[..., Running]):
    running = start(StubEngine("Hello there."))
    running.say("One.", extra_body=SESSION)
    note = {"events": [{"role": "user", "content": "a note of the product's own"}]}
    running.http("POST", "/v1/memory/sessions/s1/events", json=note)
    messages: Any = [
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "Two."},
    ]
    running.openai.chat.completions.create(model="default", messages=messages, extra_body=SESSION)
    steps = running.http("GET", "/v1/memory/sessions/s1/events").json()["events"]
    assert [step["content"] for step in steps][2:4] == ["a note of the product's own", "Two."]


def test_without_a_session_too_long_is_still_too_long(start: Callable[..., Running]):
    running = start(StubEngine("Hello there."))
    answer = running.http(
        "POST",
        "/v1/chat/completions",
        json={"model": "default", "messages": [{"role": "user", "content": "x" * 3000}]},
    )
    assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_with_the_real_engine(start: Callable[..., Running], tiny_model: Path):
    running = start(LocalEngine(tiny_model), memory_budget=300, memory_policy="summary")
    for n in range(8):
        answer = running.say(
            f"Tell me more about chapter {n} of the long book.",
            extra_body={**SESSION},
            max_tokens=24,
        )
        assert answer.usage.prompt_tokens < running.engine.max_model_len
    wait_for_a_plan(running)
    (plan, *_) = running.http("GET", "/v1/memory/sessions/s1/compactions").json()["compactions"]
    assert (plan["policy"], plan["fell_back"], plan["trigger"]) == ("summary", None, "background")
    view = running.http("GET", "/v1/memory/sessions/s1/context?budget=300").json()
    assert view["tokens"] <= 300
    assert running.say("Go on.", extra_body=SESSION, max_tokens=8).choices
