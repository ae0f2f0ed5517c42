"""Best of n over HTTP: a published reward model chooses among candidates, in every API that takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from burnish.feedback.events import BestOf
from burnish.serving.api.best_of import NO_MODEL, NO_STATES, NONE_COUNTS, draw_of
from burnish.serving.engine import Delta, EngineError, QueueFull, Request, StubEngine
from burnish.serving.live import ServedReward
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.serving.reward_models import liking, notice_of
from tests.waiting import eventually

# By candidate, as sampled; people like the plain one.
SAID = ["Oh wow, hello!!", "Hello there.", "HELLO HELLO HELLO", "Hello. I am here."]
LIKED = [0.0, 1.0, 0.0, 0.6]
HI = [{"role": "user", "content": "Hi"}]


def place(request: Request) -> int:
    return int(request.id.rpartition("-")[2])


def by_place(request: Request) -> str:
    return SAID[place(request) % len(SAID)]


@pytest.fixture
def running(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    return serve(settings, StubEngine(by_place))


@pytest.fixture
def judged(running: Running) -> Running:
    """With a reward model of what people said of each of the candidates."""
    return with_model(running)


def with_model(running: Running) -> Running:
    """As if it had been published; following is tried in live/test_rewards.py."""
    model = liking(StubEngine(), SAID, LIKED)
    notice = notice_of(model, running.service.settings.data_dir)
    running.service.rewards._served["default"] = ServedReward(notice, model)
    return running


def told(running: Running) -> list[BestOf]:
    """How the recorded answers were chosen."""
    found = [event.best_of for event in running.recorded()]
    assert None not in found
    return [one for one in found if one is not None]


def reward_of(running: Running) -> ServedReward:
    found = running.service.rewards.of("default")
    assert found is not None
    return found


def test_the_candidate_that_people_like_is_given(judged: Running) -> None:
    answer = judged.say(extra_body={"best_of": 4})
    assert answer.choices[0].message.content == SAID[1]
    assert answer.choices[0].index == 0
    assert answer.usage.completion_tokens == len(SAID[1]), "what was given, and no more"
    assert len(judged.engine.requests) == 4


def test_the_record_says_how_it_was_chosen(judged: Running) -> None:
    draws = reward_of(judged).model.draws
    exploring = next(seed for seed in range(1000) if draw_of(seed, draws) is not None)
    judged.say(seed=exploring, extra_body={"best_of": 4})
    judged.say(seed=exploring, extra_body={"best_of": 4})
    [completion] = judged.recorded()[0].completions
    assert (completion.index, completion.text) == (0, SAID[1])
    first, again = told(judged)
    assert (first.candidates, first.chosen, first.reason) == (4, [1], None)
    assert first.reward_sha256 == reward_of(judged).notice.sha256
    assert first.draw == draw_of(exploring, draws)
    assert first.scores[1] == max(score for score in first.scores if score is not None)
    assert again == first, "the draw follows from the seed"


def test_one_request_in_eight_is_chosen_by_a_draw_and_the_others_by_what_is_expected(
    judged: Running,
) -> None:
    draws = [draw_of(seed, 64) for seed in range(4000)]
    exploring = [draw for draw in draws if draw is not None]
    assert 400 < len(exploring) < 600
    assert set(exploring) == set(range(64))
    plain = draws.index(None)
    judged.say(seed=plain, extra_body={"best_of": 4})
    [one] = told(judged)
    assert one.draw is None
    assert len({score for score in one.scores if score is not None}) > 1, "they were compared"


def test_draws_differ_between_requests_without_a_seed() -> None:
    assert len({draw_of(None, 64) for _ in range(400)}) > 2


def test_candidates_have_seeds_of_their_own(judged: Running) -> None:
    judged.say(seed=7, extra_body={"best_of": 3})
    assert sorted(asked.params.seed for asked in judged.engine.requests) == [7, 8, 9]


def test_n_answers_are_the_n_best(judged: Running) -> None:
    answer = judged.say(n=2, extra_body={"best_of": 4})
    assert [(one.index, one.message.content) for one in answer.choices] == [
        (0, SAID[1]),
        (1, SAID[3]),
    ]
    [event] = judged.recorded()
    assert event.best_of is not None
    assert event.best_of.chosen == [1, 3]
    assert [one.text for one in event.completions] == [SAID[1], SAID[3]]


def test_feedback_finds_the_answer_that_was_given(judged: Running) -> None:
    answer = judged.say(n=2, extra_body={"best_of": 4})
    body = {"interaction_id": answer.id, "name": "thumbs", "value": "up", "choice": 1}
    assert judged.http("POST", "/v1/feedback", json=body).status_code == 202


def test_a_stream_tells_the_chosen_answer(judged: Running) -> None:
    chunks = list(judged.say(stream=True, extra_body={"best_of": 4}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == SAID[1]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.choices[0].index for chunk in chunks} == {0}


def test_a_stream_is_kept_alive_until_the_answer_is_chosen(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    slow = serve(
        settings.model_copy(update={"keepalive_s": 0.05}), StubEngine(by_place, pace_s=0.02)
    )
    with_model(slow)
    body = {"model": "default", "messages": HI, "stream": True, "best_of": 4}
    lines = slow.http("POST", "/v1/chat/completions", json=body).text.splitlines()
    comments = [at for at, line in enumerate(lines) if line.startswith(":")]
    first = next(at for at, line in enumerate(lines) if "Hello" in line)
    assert len(comments) > 1
    assert max(comments) < first
    assert json.loads(lines[0].removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize("stream", [False, True])
def test_responses_take_it(judged: Running, stream: bool) -> None:
    asked: Any = judged.openai.responses.create(
        model="default", input="Hi", stream=stream, extra_body={"best_of": 4}
    )
    response = list(asked)[-1].response if stream else asked
    assert response.output_text == SAID[1]
    assert told(judged)[0].chosen == [1]


@pytest.mark.parametrize("stream", [False, True])
def test_messages_take_it(judged: Running, stream: bool) -> None:
    body = {"model": "default", "messages": HI, "max_tokens": 50, "best_of": 4, "stream": stream}
    text = judged.http("POST", "/v1/messages", json=body).text
    assert SAID[1] in (text if stream else json.loads(text)["content"][0]["text"])
    assert told(judged)[0].chosen == [1]


def test_a_setting_asks_for_it_where_a_request_says_nothing(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings.model_copy(update={"best_of": 4}), StubEngine(by_place))
    with_model(running)
    assert running.say().choices[0].message.content == SAID[1]
    assert running.say(extra_body={"best_of": 1}).choices[0].message.content == SAID[0]
    assert running.say(temperature=0).choices[0].message.content == SAID[0]
    chosen, plain, greedy = running.recorded()
    assert chosen.best_of is not None
    assert chosen.best_of.chosen == [1]
    assert plain.best_of is greedy.best_of is None
    completion = running.openai.completions.create(model="default", prompt="Hi", n=2)
    assert len(completion.choices) == 2, "of completions best_of is OpenAI's own"


def test_a_setting_may_name_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_BEST_OF", '{"tone": 8}')
    settings = ServingSettings()
    assert [settings.candidates(policy) for policy in ("tone", "default")] == [8, 1]
    monkeypatch.setenv("BURNISH_BEST_OF", "3")
    assert ServingSettings().candidates("default") == 3
    for wrong in ("0", "17", '{"tone": 0}'):
        monkeypatch.setenv("BURNISH_BEST_OF", wrong)
        with pytest.raises(ValueError, match=r"BURNISH_BEST_OF|best_of"):
            ServingSettings()


def test_without_a_reward_model_one_is_sampled_and_the_record_says_so(running: Running) -> None:
    assert running.say(extra_body={"best_of": 4}).choices[0].message.content == SAID[0]
    assert len(running.engine.requests) == 1
    [record] = told(running)
    assert record.model_dump(exclude_defaults=True) == {
        "candidates": 4,
        "chosen": [0],
        "reason": NO_MODEL,
    }


def test_what_is_cut_off_is_given_last(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    # The first one is longer than the limit; of the others people like the last one better.
    replies = [SAID[1] * 2, SAID[0], SAID[3]]
    running = serve(settings, StubEngine(lambda request: replies[place(request)]))
    with_model(running)
    answer = running.say(max_tokens=len(SAID[3]), extra_body={"best_of": 3})
    assert answer.choices[0].message.content == SAID[3]
    assert answer.choices[0].finish_reason == "stop"
    cut = running.say(max_tokens=4, extra_body={"best_of": 3})
    assert cut.choices[0].finish_reason == "length"


def test_where_no_candidate_counts_the_first_is_given(
    judged: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.serving.reward import choosing

    monkeypatch.setattr(choosing, "MARGIN", -1.0)
    assert judged.say(extra_body={"best_of": 4}).choices[0].message.content == SAID[0]
    [record] = told(judged)
    assert record.reason == NONE_COUNTS
    assert record.scores == [None] * 4


class Failing(StubEngine):
    """Its hidden states cannot be read."""

    async def states(self, *_: Any) -> Any:
        raise EngineError("no memory")


def test_where_candidates_cannot_be_scored_the_first_is_given(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, Failing(by_place))
    with_model(running)
    assert running.say(extra_body={"best_of": 4}).choices[0].message.content == SAID[0]
    assert told(running)[0].reason == "EngineError: no memory"


class Crowded(StubEngine):
    """Takes three requests at once, and no more."""

    def _admit(self, request: Request, limit: bool) -> Any:
        if place(request) >= 3:
            raise QueueFull("3 requests are running already")
        return super()._admit(request, limit)


@pytest.mark.parametrize("stream", [False, True])
def test_candidates_that_the_engine_has_no_room_for_are_done_without(
    serve: Callable[..., Running],
    settings: ServingSettings,
    stream: bool,
) -> None:
    running = serve(settings, Crowded(by_place))
    with_model(running)
    answer = running.say(stream=stream, extra_body={"best_of": 16})
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = answer.choices[0].message.content
    assert text == SAID[1]
    assert told(running)[0].candidates == 3


class Broken(StubEngine):
    """The first of the candidates fails in the middle."""

    async def generate(self, request: Request) -> Any:
        if place(request) == 0:
            yield Delta("H", (72,), (-0.5,), (-0.5,))
            raise EngineError("the step failed")
        async for delta in super().generate(request):
            yield delta


def test_a_first_candidate_that_fails_fails_the_request(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, Broken(by_place))
    with_model(running)
    with pytest.raises(openai.InternalServerError):
        running.say(extra_body={"best_of": 4})
    eventually(lambda: not running.engine.running and not running.service.policies.leased)


def test_the_key_pays_for_all_candidates_and_metrics_count_them(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings.model_copy(update={"tokens_per_minute": 10_000}), StubEngine(by_place))
    with_model(running)
    spent = []
    running.service.budgets.spend = lambda account, tokens: spent.append(tokens)  # type: ignore[method-assign]
    answer = running.say(extra_body={"best_of": 4})
    generated = sum(map(len, SAID))
    eventually(lambda: spent == [answer.usage.prompt_tokens + generated])
    text = running.http("GET", "/metrics").text
    assert 'burnish_candidates_total{policy="default"} 4.0' in text
    assert 'burnish_best_of_total{outcome="chosen",policy="default"} 1.0' in text
    assert 'burnish_reward_votes{policy="default"} 16.0' in text
    tokens = 'gen_ai_client_tokens_total{policy="default",type="output"}'
    assert f"{tokens} {generated:.1f}" in text


def test_the_state_of_a_policy_tells_its_reward_model(judged: Running) -> None:
    reward = judged.http("GET", "/v1/policies/default").json()["reward"]
    assert reward["votes"] == 16
    assert reward["sha256"] == reward_of(judged).notice.sha256
    assert 0 <= reward["age_seconds"] < 60


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"best_of": 0}, "greater than or equal to 1"),
        ({"best_of": 17}, "less than or equal to 16"),
        ({"best_of": "many"}, "an integer"),
        ({"best_of": 2, "n": 3}, "at least n"),
        ({"best_of": 2, "temperature": 0}, "temperature 0"),
    ],
)
def test_a_number_of_which_nothing_can_be_chosen_is_refused_by_name(
    judged: Running, fields: dict[str, Any], says: str
) -> None:
    body = {"model": "default", "messages": HI, **fields}
    response = judged.http("POST", "/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "best_of")
    assert says in error["message"]
    assert not judged.engine.requests


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/responses", {"input": "Hi", "best_of": 17}),
        ("/v1/responses", {"input": "Hi", "best_of": 2, "temperature": 0}),
        ("/v1/messages", {"messages": HI, "max_tokens": 9, "best_of": 0}),
        ("/v1/messages", {"messages": HI, "max_tokens": 9, "best_of": 2, "temperature": 0}),
    ],
)
def test_the_other_apis_name_it_too(running: Running, path: str, fields: dict[str, Any]) -> None:
    response = running.http("POST", path, json={"model": "default", **fields})
    assert response.status_code == 400
    assert "best_of" in response.json()["error"]["message"]


def test_an_engine_that_tells_no_hidden_states_refuses_it_and_ignores_the_setting(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    engine = StubEngine(by_place)
    engine.depth = None
    running = serve(settings.model_copy(update={"best_of": 4}), engine)
    with pytest.raises(openai.BadRequestError, match="best_of"):
        running.say(extra_body={"best_of": 4})
    assert running.say().choices[0].message.content == SAID[0]
    assert told(running)[0].reason == NO_STATES


def test_a_client_that_hangs_up_frees_every_candidate(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    running = serve(settings, StubEngine(by_place, pace_s=0.05))
    with_model(running)
    stream = running.say(stream=True, extra_body={"best_of": 4})
    eventually(lambda: len(running.engine.running) == 4)
    stream.close()
    eventually(lambda: not running.engine.running and not running.service.policies.leased)
