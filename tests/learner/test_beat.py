"""Beat goes on where the last one stood, and what could not be sent is due again at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from burnish.feedback.contract import BEAT_KEY
from burnish.learner.app import make_app
from burnish.learner.beat import RedisScheduler
from burnish.learner.settings import LearnerSettings
from celery.beat import SchedulingError


def entries(beat: RedisScheduler) -> dict[str, Any]:
    assert beat.schedule is not None
    return beat.schedule


def scheduler(url: str, folder: Path) -> RedisScheduler:
    return RedisScheduler(make_app(LearnerSettings(redis_url=url, data_dir=folder)))


def test_a_new_beat_goes_on_where_the_last_stood(
    redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    first = scheduler(redis_url, tmp_path)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    entries(first)["update default"].last_run_at = hour_ago
    first.sync()
    entry = entries(scheduler(redis_url, tmp_path))["update default"]
    assert abs(entry.last_run_at - hour_ago) < timedelta(milliseconds=1)
    assert 1700 < entry.is_due().next <= 1800, "of 5400 s an hour is over"


def test_a_clock_that_was_ahead_puts_nothing_off(
    redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    redis_client.hset(BEAT_KEY, "intake", datetime.now(UTC).timestamp() + 1e6)
    assert entries(scheduler(redis_url, tmp_path))["intake"].is_due().next <= 2.0


def test_without_redis_intervals_begin_now_and_what_was_due_is_tried_again(tmp_path: Path) -> None:
    beat = scheduler("redis://127.0.0.1:1/0", tmp_path)
    entry = entries(beat)["update default"]
    assert 5390 < entry.is_due().next <= 5400
    with pytest.raises(SchedulingError):
        beat.apply_async(entry)
    assert entries(beat)["update default"].is_due().next <= 1.0
    beat.sync()
