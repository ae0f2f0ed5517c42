"""Quarantine as admins see it, and letting somebody out."""

from __future__ import annotations

import json

from burnish.feedback.contract import CELERY_PREFIX, INTAKE_QUEUE, QUARANTINE_PREFIX
from burnish.feedback.stream.user_keys import pseudonym

from tests.serving.api.test_alarms_route import running  # noqa: F401
from tests.serving.conftest import Running


def test_it_is_listed_and_released_with_a_trace(running: Running, redis_client) -> None:  # noqa: F811
    told = running.http("GET", "/v1/learner/quarantine").json()
    assert "has not looked" in told["why"]
    held = [{"tenant": "local", "person": "ab", "key_id": None, "votes": 40}]
    redis_client.set(QUARANTINE_PREFIX + "default", json.dumps({"held": held}))
    assert running.http("GET", "/v1/learner/quarantine").json()["held"] == held
    body = {"tenant": "local", "user": "ann", "why": "a script of ours"}
    answer = running.http("POST", "/v1/learner/quarantine/release", json=body)
    assert (answer.status_code, answer.json()["person"]) == (202, pseudonym("local", "ann"))
    (queued,) = redis_client.lrange(CELERY_PREFIX + INTAKE_QUEUE, 0, -1)
    assert json.loads(queued)["headers"]["task"] == "burnish.learner.free"
    (entry,) = running.service.audit.entries(1)
    assert (entry.what, entry.why) == ("release", "a script of ours")
    nobody = running.http("POST", "/v1/learner/quarantine/release", json={"tenant": "local"})
    assert nobody.status_code == 400
