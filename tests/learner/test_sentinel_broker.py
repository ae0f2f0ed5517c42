"""Celery's queues behind Sentinels: sent to, and read from, whoever is the master."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.feedback.contract import INTAKE_QUEUE, INTAKE_TASK
from burnish.learner.app import make_app
from burnish.learner.settings import LearnerSettings
from celery import Celery
from kombu.exceptions import OperationalError

from tests.redis_fleet import SentinelFleet
from tests.waiting import eventually


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[SentinelFleet]:
    made = SentinelFleet(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def received(app: Celery) -> bool:
    """Whether a tick waits in the queue; it is taken out."""
    with app.connection_for_read() as connection:
        channel = connection.channel()
        message = channel.basic_get(INTAKE_QUEUE, no_ack=True)
        return message is not None and message.headers["task"] == INTAKE_TASK


def test_ticks_go_to_the_master_before_and_after_a_failover(fleet: SentinelFleet):
    app = make_app(LearnerSettings(redis_url=fleet.url))

    def sent() -> bool:
        try:
            app.send_task(INTAKE_TASK, queue=INTAKE_QUEUE)
        except OperationalError:
            return False
        return True

    assert sent()
    assert received(app)
    old = fleet.master()
    assert old is not None
    old.kill()
    eventually(lambda: (fleet.master() or old) is not old, 60)
    eventually(sent, 30)
    assert received(app)
    app.close()
