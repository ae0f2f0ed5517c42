"""One URL says whether Redis is one server, a master that Sentinels name, or a cluster."""

import pytest
from burnish.feedback.redis_clients import Servers, broker_of, servers_of
from burnish.feedback.settings import StreamSettings
from pydantic import ValidationError


def test_one_server_is_left_to_redis_py():
    assert servers_of("redis://:p@one:6379/0") is None
    assert broker_of("redis://:p@one:6379/0") == ("redis://:p@one:6379/0", {})


def test_sentinels_name_a_master():
    url = "sentinel://ann:p%2Fw@one:1,two:2/main?db=3&sentinel_password=s"
    assert servers_of(url) == Servers(
        hosts=(("one", 1), ("two", 2)),
        master="main",
        user="ann",
        password="p/w",
        db=3,
        sentinel_password="s",
    )
    assert broker_of(url) == (
        "sentinel://ann:p%2Fw@one:1/3;sentinel://ann:p%2Fw@two:2/3",
        {"master_name": "main", "sentinel_kwargs": {"password": "s"}},
    )


def test_a_cluster_has_servers_and_one_database():
    servers = servers_of("rediss+cluster://:p@[::1]:1,two:2")
    assert servers == Servers((("::1", 1), ("two", 2)), None, password="p", tls=True)


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:hunter2@one:1",
        "sentinel://:hunter2@one/main",
        "redis+cluster://:hunter2@one:1/0",
        "sentinel://:hunter2@one:1/main?databse=3",
        "redis+cluster://:hunter2@one:1",  # Celery cannot use it
    ],
)
def test_what_cannot_be_meant_is_refused_without_its_password(url: str):
    with pytest.raises(ValidationError) as caught:
        StreamSettings(redis_url=url)
    assert "hunter2" not in str(caught.value)


def test_beside_a_cluster_celery_has_a_redis_of_its_own():
    settings = StreamSettings(redis_url="redis+cluster://one:1", broker_url="redis://two:2/0")
    assert settings.broker == "redis://two:2/0"
    with pytest.raises(ValidationError, match=r"broker_url\n.*Celery cannot keep its queues"):
        StreamSettings(redis_url="redis+cluster://one:1")
