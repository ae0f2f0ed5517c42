"""Alarms as they are told, silenced and named when somebody promotes; promotion paused and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis
from burnish.feedback.audit import AuditLog
from burnish.feedback.contract import ALARMS_PREFIX, CELERY_PREFIX, INTAKE_QUEUE
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

ALARM = {
    "id": "alarm-1",
    "version": 1,
    "name": "refusals",
    "says": "answers that refuse: 50 %",
    "silenced_until": None,
}


@pytest.fixture
def running(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_url: str,
    redis_client: redis.Redis,
) -> Running:
    registry = StubRegistry()
    registry._audit = AuditLog(settings.data_dir)
    with_redis = settings.model_copy(update={"redis_url": redis_url})
    return serve(with_redis, StubEngine("Hello there."), registry)


@pytest.fixture
def alarmed(running: Running, redis_client) -> Running:
    told = {"policy": "default", "at": 1.0, "open": [ALARM], "closed": [], "readings": []}
    redis_client.set(ALARMS_PREFIX + "default", json.dumps(told))
    return running


def test_what_is_open_is_told_and_that_it_holds(alarmed: Running) -> None:
    told = alarmed.http("GET", "/v1/learner/alarms").json()
    assert (told["available"], told["holds"]) == (True, True)
    assert told["open"][0]["says"] == "answers that refuse: 50 %"
    assert alarmed.http("GET", "/v1/learner/alarms?policy=none").status_code == 404


def test_before_the_first_look_it_says_so(running: Running) -> None:
    told = running.http("GET", "/v1/learner/alarms").json()
    assert told["available"] is False
    assert "has not looked at 'default' yet" in told["why"]


def test_an_alarm_is_silenced_by_the_learner_and_audited(alarmed: Running, redis_client) -> None:
    body = {"hours": 2, "why": "known"}
    answer = alarmed.http("POST", "/v1/learner/alarms/alarm-1/silence", json=body)
    assert answer.status_code == 202, answer.text
    (queued,) = redis_client.lrange(CELERY_PREFIX + INTAKE_QUEUE, 0, -1)
    assert json.loads(queued)["headers"]["task"] == "burnish.learner.silence"
    (entry,) = alarmed.service.audit.entries(1)
    assert (entry.what, entry.about, entry.why) == ("silence alarm", "default@1: refusals", "known")
    gone = alarmed.http("POST", "/v1/learner/alarms/alarm-2/silence", json=body)
    assert gone.status_code == 404


def test_who_promotes_by_hand_is_told_what_is_open(alarmed: Running) -> None:
    version = alarmed.service.registry.add()  # type: ignore[attr-defined]
    moved = {"version": version, "why": "I know better"}
    told = alarmed.http("POST", "/v1/policies/default/promote", json=moved).json()
    assert told["champion"] == version
    assert told["alarms"] == ["answers that refuse: 50 %"]
    (entry,) = alarmed.service.audit.entries(1)
    assert entry.why == "I know better; open alarms: refusals"


def test_promotion_is_paused_and_resumed_with_a_trace(running: Running) -> None:
    running.http("POST", "/v1/policies/default/pause", json={"why": "a fair"})
    shown = running.http("GET", "/v1/policies/default").json()["paused"]
    assert (shown["who"], shown["why"]) == ("local", "a fair")
    assert running.http("POST", "/v1/policies/default/resume").json()["resumed"] is True
    assert running.http("POST", "/v1/policies/default/resume").json()["resumed"] is False
    assert running.http("GET", "/v1/policies/default").json()["paused"] is None
    what = [(e.who, e.what, e.about) for e in running.service.audit.entries(2)]
    assert what == [("local", "pause", "default"), ("local", "resume", "default")]
