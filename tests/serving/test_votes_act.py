"""A vote acts before any weight moves: POST, spool, stream, intake, publisher, and the next answer is chosen by it.

Serving with the real engine on a tiny random model, the learner's real workers and beat on a real Redis,
at the intervals that they have by default.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from burnish.serving.engine import LocalEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

FIRST = 16  # judged answers, before which nothing is published


@pytest.fixture
def running(
    serve: Callable[..., Running],
    settings: ServingSettings,
    tiny_model: Path,
    redis_url: str,
    redis_client: redis.Redis,
) -> Running:
    changed = {"model": tiny_model, "redis_url": redis_url}
    engine = LocalEngine(tiny_model, max_running=8, threads=1)
    return serve(settings.model_copy(update=changed), engine)


@pytest.fixture
def learner(running: Running) -> Iterator[Callable[[], str]]:
    """The intake's worker, the publisher's and beat; gives what they have logged. Without updates."""
    settings = running.service.settings
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "BURNISH_REDIS_URL": settings.redis_url,
        "BURNISH_DATA_DIR": str(settings.data_dir),
        "BURNISH_MODEL": str(settings.model),
    }
    celery = [sys.executable, "-m", "celery", "-q", "-A", "burnish.learner.app:app"]
    commands = [["worker", "-P", "solo", "-Q", queue] for queue in ("intake", "reward")]
    log = settings.data_dir / "learner.log"
    with log.open("wb") as out:
        children = [
            subprocess.Popen([*celery, *command], env=environment, stdout=out, stderr=out)
            for command in (*commands, ["beat", "--pidfile="])
        ]
        yield lambda: log.read_text()
        for child in children:
            child.terminate()
        for child in children:
            child.wait(60)


def vote(running: Running, number: int) -> None:
    """Ask something and judge the answer."""
    answer = running.say(f"What is {number} + 4?", max_tokens=4 + number % 3)
    judged = {
        "interaction_id": answer.id,
        "name": "thumbs",
        "value": "up" if number % 3 else "down",
    }
    response = running.http("POST", "/v1/feedback", json={**judged, "user": f"user {number % 4}"})
    assert response.status_code == 202


def votes_known(running: Running) -> int:
    """To the reward model that serving asks."""
    found = running.service.rewards.of("default")
    return 0 if found is None else found.notice.votes


@pytest.mark.timeout(600)
def test_the_answer_after_a_vote_is_chosen_by_it(
    running: Running, learner: Callable[[], str]
) -> None:
    for number in range(FIRST):
        vote(running, number)
    eventually(lambda: votes_known(running), seconds=400)
    assert votes_known(running) == FIRST, learner()

    vote(running, FIRST)
    voted = time.monotonic()
    eventually(lambda: votes_known(running) > FIRST, seconds=120)
    # Answers are of a random model: which one is chosen is no matter here, but by whom.
    running.say("What is 7 + 4?", max_tokens=6, seed=1, extra_body={"best_of": 4})
    took = time.monotonic() - voted
    print(f"{took:.1f} s from the vote to an answer chosen by it")
    assert took < 60

    metrics = running.http("GET", "/metrics").text
    assert 'burnish_best_of_total{outcome="chosen",policy="default"} 1.0' in metrics
    assert running.http("GET", "/v1/policies/default").json()["champion"] == 1, (
        "no weight has moved"
    )
