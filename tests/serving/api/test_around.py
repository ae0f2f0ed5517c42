"""What is around chat: health, metrics, the learner's face, the page, memory in a chat."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import openai
import pytest
import redis
from burnish.feedback.contract import INTAKE_KEY, UNMATCHED_KEY
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


@pytest.fixture
def with_redis(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> Running:
    return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello there."))


def test_health_without_redis_is_degraded_and_ready(running: Running) -> None:
    assert running.http("GET", "/healthz").json() == {"status": "ok"}
    ready = running.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert any("redis" in problem for problem in ready.json()["problems"])
    assert running.http("GET", "/version").json()["burnish"]


def test_health_with_redis_is_ok_and_the_spool_empties(with_redis: Running) -> None:
    with_redis.say("Hi")
    assert with_redis.http("GET", "/readyz").json()["status"] == "ok"
    eventually(lambda: with_redis.http("GET", "/readyz").json()["stream"]["lag"] == 0)


def test_metrics_count_without_naming_users(running: Running) -> None:
    answer = running.say("Hi", user="ann")
    judged = {"interaction_id": answer.id, "name": "thumbs", "value": "up", "user": "ann"}
    running.http("POST", "/v1/feedback", json=judged)
    text = running.http("GET", "/metrics").text
    for line in (
        'gen_ai_server_request_duration_seconds_count{operation="chat",policy="default"} 1.0',
        'gen_ai_evaluation_result_total{name="thumbs",value="up"} 1.0',
        'burnish_interactions_total{outcome="recorded",policy="default"} 1.0',
        'burnish_policy_version{policy="default"} 1.0',
        'burnish_http_requests_total{route="/v1/chat/completions",status="200"} 1.0',
    ):
        assert line in text
    assert "ann" not in text


def test_the_learners_ticks_are_shown(with_redis: Running, redis_client: redis.Redis) -> None:
    assert with_redis.http("GET", "/v1/learner").json() == {
        "available": True,
        "why": "the learner has not run yet",
        "ticks": [],
    }
    redis_client.lpush("burnish:ticks", json.dumps({"id": "t1", "did": "nothing"}))
    assert with_redis.http("GET", "/v1/learner").json()["ticks"][0]["id"] == "t1"


def test_the_learners_report_is_shown(with_redis: Running, redis_client: redis.Redis) -> None:
    told = with_redis.http("GET", "/v1/learner/report").json()
    assert (told["available"], told["report"]) == (False, None)
    assert "no report on 'default' yet" in told["why"]
    redis_client.set("burnish:report:default", json.dumps({"verdict": "learning"}))
    assert with_redis.http("GET", "/v1/learner/report?policy=default").json() == {
        "available": True,
        "why": None,
        "report": {"verdict": "learning"},
    }


def test_there_is_no_report_on_a_policy_that_is_not_there(
    with_redis: Running, redis_client: redis.Redis
) -> None:
    redis_client.set("burnish:report:shop", "{}")
    answer = with_redis.http("GET", "/v1/learner/report?policy=shop")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "policy_not_found")
    assert "no policy 'shop'" in answer.json()["error"]["message"]


def test_an_update_is_asked_for_by_name(with_redis: Running, redis_client: redis.Redis) -> None:
    answer = with_redis.http("POST", "/v1/learner/update")
    assert answer.status_code == 202
    task = json.loads(redis_client.lrange("burnish:celery:update", 0, 0)[0])  # type: ignore
    assert task["headers"]["task"] == "burnish.learner.update"
    assert task["headers"]["id"] == answer.json()["id"]


def test_the_learner_is_away_while_redis_is(running: Running) -> None:
    shown = running.http("GET", "/v1/learner").json()
    assert (shown["available"], shown["ticks"]) == (False, [])
    report = running.http("GET", "/v1/learner/report").json()
    assert (report["available"], report["report"]) == (False, None)
    assert "Redis does not answer" in report["why"]
    asked = running.http("POST", "/v1/learner/update")
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "learner_unavailable")


def test_a_session_needs_redis_and_says_so(running: Running) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        running.say("Hi", extra_body={"session_id": "s1"})
    assert (caught.value.status_code, caught.value.code) == (503, "memory_unavailable")
    assert running.say("Hi").choices


def prompt_of(running: Running) -> str:
    return bytes(running.engine.requests[-1].prompt_ids).decode()


def test_a_session_remembers_for_clients_that_send_only_what_is_new(with_redis: Running) -> None:
    session = {"session_id": "s1"}
    with_redis.say("My cat is called Miso.", extra_body=session, user="ann")
    with_redis.say("What is my cat called?", extra_body=session, user="ann")
    prompt = prompt_of(with_redis)
    assert prompt.index("Miso") < prompt.index("Hello there.") < prompt.index("What is my cat")
    event = max(with_redis.service.engine.requests, key=lambda request: len(request.prompt_ids))  # type: ignore
    assert event is with_redis.engine.requests[-1]
    with_redis.say("Hi", extra_body={"session_id": "s2"})
    assert "Miso" not in prompt_of(with_redis)


def test_a_session_repeats_nothing_to_clients_that_send_everything(with_redis: Running) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One."}]
    for text in ("Two.", "Three.", None):
        answer = with_redis.openai.chat.completions.create(
            model="default",
            messages=messages,  # type: ignore
            extra_body={"session_id": "s1"},
        )
        said = answer.choices[0].message.content
        messages += [
            {"role": "assistant", "content": said},
            {"role": "user", "content": text or ""},
        ]
    prompt = prompt_of(with_redis)
    assert prompt.startswith("system: Be brief.")
    assert [prompt.count(word) for word in ("Be brief.", "One.", "Two.", "Three.")] == [1, 1, 1, 1]
    stats = with_redis.http("GET", "/v1/memory/sessions/s1/stats").json()
    assert stats["steps"] == 6


def test_the_page_is_ours_alone(running: Running) -> None:
    page = running.http("GET", "/")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert running.http("GET", "/static/../app.py").status_code == 404
    assert running.http("GET", "/static/%2e%2e/app.py").status_code == 404
    assert "default-src 'none'" in running.http("GET", "/docs").headers["content-security-policy"]
    assert running.http("GET", "/openapi.json").json()["openapi"].startswith("3.")


def test_an_intake_that_is_behind_is_told_and_chat_stays_ready(
    with_redis: Running, redis_client: redis.Redis
) -> None:
    redis_client.set(INTAKE_KEY, time.time())
    assert with_redis.http("GET", "/readyz").json()["status"] == "ok"
    redis_client.set(INTAKE_KEY, time.time() - 95)
    ready = with_redis.http("GET", "/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert any("95 s ago" in problem for problem in ready.json()["problems"])
    assert "95 s ago" in with_redis.http("GET", "/v1/learner").json()["problem"]


def test_a_vote_that_met_no_answer_is_told_so(with_redis: Running, redis_client: redis.Redis):
    interaction = with_redis.say("Hi").id
    body = {"interaction_id": interaction, "name": "thumbs", "value": "up"}
    given = with_redis.http("POST", "/v1/feedback", json=body).json()["id"]
    redis_client.hset(UNMATCHED_KEY, f"local/{given}", "its answer was never recorded")
    fate = with_redis.http("GET", f"/v1/feedback/{given}").json()
    assert (fate["value"], fate["problem"]) == ("up", "its answer was never recorded")
    assert with_redis.http("GET", "/v1/learner").json()["unmatched"] == 1
