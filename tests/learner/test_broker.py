"""The connection to the broker is tried again at a steady pace."""

from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.learner.app import make_app
from burnish.learner.broker import RETRY_S
from burnish.learner.settings import LearnerSettings

from tests.conftest import RedisServer


class EnoughSeen(Exception):
    pass


def test_an_outage_does_not_lengthen_the_pauses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    settings = LearnerSettings(redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path)
    pauses: list[float] = []

    def failed(_error: Exception, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 5:
            raise EnoughSeen

    connection = make_app(settings).connection_for_read()
    ensure: Callable = connection.ensure_connection
    with pytest.raises(EnoughSeen):
        ensure(failed, None)
    assert pauses == [RETRY_S] * 5


@pytest.mark.parametrize("answer", ["ack", "reject"])
def test_a_message_that_cannot_be_acknowledged_leaves_its_place(
    redis_of_its_own: RedisServer, tmp_path: Path, answer: str
) -> None:
    app = make_app(LearnerSettings(redis_url=redis_of_its_own.url, data_dir=tmp_path))
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("intake")
        queue.put("tick")
        message = queue.get(timeout=5)
        qos = queue.consumer.channel.qos
        qos.prefetch_count = 1
        assert not qos.can_consume()
        redis_of_its_own.kill()
        with pytest.raises(connection.connection_errors):
            getattr(message, answer)()
        assert qos.can_consume()
        redis_of_its_own.start()
