"""What became of a judgement: told step by step, with why it counts less or nothing, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import pytest
import redis
from burnish.feedback import fates as told_by_learner
from burnish.feedback.contract import TICKS_KEY
from burnish.feedback.events import FeedbackEvent
from burnish.feedback.fates import Fate
from burnish.serving.api.fates import Known, told
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running

NOW = 1_000_000.0
VOTE = FeedbackEvent(
    id="f",
    tenant="local",
    interaction_id="i",
    name="thumbs",
    value="up",
    time=datetime.fromtimestamp(NOW - 60, UTC),
)
JOINED = {"policy": "default", "joined_at": NOW - 50}
WEIGHED = {**JOINED, "weighed_at": NOW - 40, "weight": 1.0, "less": ""}
USED = {**WEIGHED, "used_at": NOW - 20, "update": "u1", "version": 2}


PARTS = ("served", "challenger", "tried_at", "idle", "away")


def story(state: str = "stands", problem: str | None = None, **fate: Any) -> dict[str, Any]:
    known = {name: fate.pop(name) for name in PARTS if name in fate}
    served = known.pop("served", {1: 5.0})
    return told(
        VOTE, Known(state=state, problem=problem, fate=Fate(**fate), served=served, **known), NOW
    )


def steps(**fate: Any) -> list[str]:
    return [step["step"] for step in story(**fate)["steps"]]


def test_each_step_is_told_when_it_is_known():
    assert steps() == ["saved"]
    assert steps(**JOINED) == ["saved", "joined"]
    assert steps(**WEIGHED) == ["saved", "joined", "weighed"]
    assert steps(**USED, passed=True) == ["saved", "joined", "weighed", "used", "gate"]
    tried = story(**USED, passed=True, challenger=2, tried_at=NOW - 15)["steps"]
    assert tried[-1] == {
        "step": "canary",
        "at": NOW - 15,
        "update": "u1",
        "version": 2,
        "running": True,
    }
    whole = story(**USED, passed=True, tried_at=NOW - 15, served={1: 5.0, 2: NOW - 10})
    assert whole["steps"][-2]["running"] is False
    assert whole["steps"][-1] == {"step": "served", "at": NOW - 10, "update": "u1", "version": 2}
    assert (whole["skipped"], whole["waits"]) == (None, None)


@pytest.mark.parametrize(
    ("fate", "waits"),
    [
        ({}, "takes it in"),
        ({"away": True}, "nothing is lost"),
        (JOINED, "the next update"),
        ({**JOINED, "idle": "3 new judgements, 8 make one worth it"}, "8 make one worth it"),
        ({**USED, "passed": True}, "waits to be promoted"),
        ({**USED, "passed": True, "challenger": 2}, "tried on a share of people"),
        ({**USED, "passed": True, "tried_at": NOW - 15}, "did not take over; the judgement counts"),
        ({**USED, "passed": False}, "counts again with the next update"),
    ],
)
def test_what_it_waits_for_is_told(fate: dict[str, Any], waits: str):
    assert waits in story(**fate)["waits"]


@pytest.mark.parametrize(
    ("fate", "why"),
    [
        ({"state": "retracted"}, "taken back"),
        ({"state": "superseded"}, "replaced it"),
        ({"problem": "its answer was never recorded"}, "never recorded"),
        ({**JOINED, "skipped": "long"}, "longer than"),
        ({**JOINED, "skipped": "old"}, "too long ago"),
        ({**WEIGHED, "weight": 0.0, "less": "burst"}, "faster than people read"),
    ],
)
def test_what_counts_nothing_is_told_with_the_reason(fate: dict[str, Any], why: str):
    found = story(**fate)
    assert why in found["skipped"]
    assert found["waits"] is None


def test_a_vote_that_counts_less_says_why():
    (weighed,) = [
        s
        for s in story(**{**WEIGHED, "weight": 0.4, "less": "cap"})["steps"]
        if s["step"] == "weighed"
    ]
    assert weighed["weight"] == 0.4
    assert "only so much" in weighed["why"]


@pytest.fixture
def with_redis(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_client: redis.Redis,
    redis_url: str,
) -> Running:
    return serve(
        settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello."), StubRegistry()
    )


def vote(running: Running, **body: Any) -> tuple[str, str]:
    """Its id, and the id of its event."""
    body = {"interaction_id": running.say("Hi").id, "name": "thumbs", "value": "up", **body}
    given = running.http("POST", "/v1/feedback", json=body).json()["id"]
    found = running.service.spool.get("local", given)
    assert found is not None
    return given, found.event_id


def fate(running: Running, given: str) -> dict[str, Any]:
    return running.http("GET", f"/v1/feedback/{given}").json()["fate"]


def test_the_route_follows_a_vote_to_the_version_that_serves(
    with_redis: Running, redis_client: redis.Redis
):
    given, event = vote(with_redis)
    assert [step["step"] for step in fate(with_redis, given)["steps"]] == ["saved"]
    told_by_learner.tell(redis_client, {event: Fate(**WEIGHED)})
    idle = {
        "kind": "update",
        "policy": "default",
        "why_not": "1 new judgement, 8 make one worth it",
    }
    redis_client.lpush(TICKS_KEY, json.dumps(idle))
    assert fate(with_redis, given)["waits"] == idle["why_not"]
    registry = with_redis.service.registry
    assert isinstance(registry, StubRegistry)
    version = registry.add()
    used = Fate(policy="default", update="u1", version=version, passed=True, used_at=NOW)
    told_by_learner.tell(redis_client, {event: used})
    assert "waits to be promoted" in fate(with_redis, given)["waits"]
    began = with_redis.http(
        "POST", "/v1/policies/default/canary", json={"action": "begin", "version": version}
    )
    assert began.status_code == 200, began.text
    tried = fate(with_redis, given)
    assert (tried["steps"][-1]["step"], tried["steps"][-1]["running"]) == ("canary", True)
    assert "tried on a share of people" in tried["waits"]
    promoted = with_redis.http("POST", "/v1/policies/default/promote", json={"version": version})
    assert promoted.status_code == 200, promoted.text
    served = fate(with_redis, given)
    assert served["steps"][-1]["step"] == "served"
    assert served["waits"] is None
    assert served["steps"][-2] == {**tried["steps"][-1], "running": False}
    with_redis.http("DELETE", f"/v1/feedback/{given}")
    assert fate(with_redis, given)["skipped"] == "it was taken back"


def test_without_redis_a_vote_is_saved_and_the_story_waits(running: Running):
    given, _ = vote(running)
    found = fate(running, given)
    assert [step["step"] for step in found["steps"]] == ["saved"]
    assert "nothing is lost" in found["waits"]


def test_what_happens_is_sent_while_somebody_listens(
    with_redis: Running, redis_client: redis.Redis
):
    heard: list[tuple[str, dict[str, Any]]] = []
    with httpx.stream("GET", f"{with_redis.url}/v1/learner/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            if line.startswith("data: "):
                heard.append((name, json.loads(line.removeprefix("data: "))))
                if name == "policies" and len(heard) == 1:
                    tick = {"kind": "update", "policy": "default", "why_not": "too few", "id": "t1"}
                    redis_client.lpush(TICKS_KEY, json.dumps(tick))
                if name == "tick":
                    break
    assert heard[0][1]["policies"]["default"]["champion"] == 1
    assert heard[-1][1]["why_not"] == "too few"


def test_a_fate_is_forgotten_after_a_month(redis_client: redis.Redis):
    told_by_learner.tell(redis_client, {"local/f": Fate(**JOINED)})
    ttl = redis_client.ttl("burnish:fate:local/f")
    assert 0 < ttl <= told_by_learner.KEPT_SECONDS
