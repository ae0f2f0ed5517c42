"""Databases, streams and events for the learner's tests."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.feedback.contract import TICKS_KEY
from burnish.feedback.events import Completion, FeedbackEvent, InteractionEvent, RetractionEvent
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner.database import Database
from burnish.learner.lease import Lease

START = datetime(2026, 1, 1, tzinfo=UTC)


def latest_ticks(client: redis.Redis) -> list[dict[str, Any]]:
    """The lines that serving shows, newest first."""
    return [json.loads(line) for line in client.lrange(TICKS_KEY, 0, -1)]  # type: ignore[union-attr]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty experience database with its tables, on each backend."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/experience.db"
    else:
        url = request.getfixturevalue("postgres_url")
    made = Database(url)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/experience.db")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def stream(redis_url: str, redis_client: redis.Redis) -> Iterator[RedisStream]:
    made = RedisStream(redis_url)
    yield made
    made.close()


@pytest.fixture
def lease_on(redis_client: redis.Redis) -> Callable[..., Lease]:
    def make(database: Database, name: str = "intake", seconds: float = 30.0) -> Lease:
        return Lease(redis_client, name, seconds, database=database)

    return make


def interaction(number: int = 1, **changes) -> InteractionEvent:
    fields = {
        "id": f"chatcmpl-{number:04}",
        "time": START + timedelta(seconds=number),
        "tenant": "local",
        "user": "ada",
        "policy": "default",
        "version": 1,
        "messages": [{"role": "user", "content": "hello"}],
        "prompt_ids": [1, 2, 3],
        "completions": [
            Completion(
                index=0,
                token_ids=[4, 5],
                logprobs=[-0.5, -0.25],
                processed_logprobs=[-0.5, -0.25],
                text="hi",
                finish_reason="stop",
            )
        ],
    }
    return InteractionEvent(**{**fields, **changes})


def thumbs(
    number: int = 1, value: str | float = "up", on: int | None = None, **changes
) -> FeedbackEvent:
    fields = {
        "id": f"fb-{number:04}",
        "time": START + timedelta(minutes=1, seconds=number),
        "tenant": "local",
        "user": "ada",
        "interaction_id": f"chatcmpl-{on or number:04}",
        "name": "thumbs",
        "value": value,
    }
    return FeedbackEvent(**{**fields, **changes})


def retraction(number: int = 1, **changes) -> RetractionEvent:
    fields = {
        "id": f"rt-{number:04}",
        "time": START + timedelta(minutes=2, seconds=number),
        "tenant": "local",
        "feedback_id": f"fb-{number:04}",
        "interaction_id": f"chatcmpl-{number:04}",
    }
    return RetractionEvent(**{**fields, **changes})
