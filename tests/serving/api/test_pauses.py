"""A person pauses a policy's updates and lets them go on; both stand in the audit log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from burnish.feedback.contract import PAUSED_KEY
from burnish.feedback.pauses import Pause
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running


@pytest.fixture
def with_redis(
    serve: Callable[..., Running],
    settings: ServingSettings,
    redis_client: redis.Redis,
    redis_url: str,
) -> Running:
    return serve(settings.model_copy(update={"redis_url": redis_url}), StubEngine("Hello."))


def test_updates_are_paused_and_resumed(with_redis: Running, redis_client: redis.Redis):
    made = with_redis.http("POST", "/v1/learner/pause", json={"why": "a fair is on"}).json()
    assert made["paused"]["why"] == "a fair is on"
    assert with_redis.http("GET", "/v1/learner").json()["paused"]["default"] == made["paused"]
    left = Pause.decoded(redis_client.hget(PAUSED_KEY, "default") or b"")  # type: ignore[arg-type]
    assert "a fair is on" in left.says
    assert with_redis.http("POST", "/v1/learner/resume", json={}).json()["paused"] is None
    assert "paused" not in with_redis.http("GET", "/v1/learner").json()
    done = [e["what"] for e in with_redis.http("GET", "/v1/audit").json()["data"]]
    assert done[:2] == ["resume updates", "pause updates"]


def test_only_policies_that_are_there_can_be_paused(with_redis: Running):
    refused = with_redis.http("POST", "/v1/learner/pause", json={"policy": "none"})
    assert refused.status_code == 404
    assert refused.json()["error"]["param"] == "policy"


def test_without_redis_it_says_so(running: Running):
    refused = running.http("POST", "/v1/learner/pause", json={})
    assert refused.status_code == 503
    assert "Redis does not answer" in refused.json()["error"]["message"]


def test_the_latest_versions_and_moves_are_told_with_reasons(running: Running):
    registry = running.service.registry
    for n in range(3):
        registry.add(b"%d" % n)  # type: ignore[attr-defined]
    registry._audit = running.service.audit  # of the stub, which has none
    running.http("POST", "/v1/policies/default/promote", json={"version": 3, "why": "it is better"})
    told = running.http("GET", "/v1/policies/default", params={"limit": 2}).json()
    assert [version["version"] for version in told["versions"]] == [3, 4]
    assert told["history"][-1]["why"] == "it is better"
    whole = running.http("GET", "/v1/policies/default").json()
    assert [version["version"] for version in whole["versions"]] == [1, 2, 3, 4]
