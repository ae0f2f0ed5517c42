"""The retention tick: only where a time is set, and only what is older."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from burnish.feedback.contract import FEEDBACK, RETENTION_TASK
from burnish.feedback.stream.deadletters import dead_letter, letters
from burnish.feedback.stream.record import StreamRecord
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner import work
from burnish.learner.app import make_app
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import InteractionRow
from burnish.memory import MemoryStore, connect
from sqlalchemy import select

from tests.learner.conftest import interaction, thumbs


@pytest.mark.parametrize("days", [None, 30.0])
def test_beat_sends_it_only_where_a_time_is_set(tmp_path: Path, days: float | None):
    schedule = make_app(LearnerSettings(data_dir=tmp_path, retention_days=days)).conf.beat_schedule
    tasks = {entry["task"] for entry in schedule.values()}
    assert (RETENTION_TASK in tasks) == (days is not None)


def test_it_erases_what_is_older_and_nothing_else(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = LearnerSettings(data_dir=tmp_path, retention_days=30)
    monkeypatch.setattr(work, "settings", lambda: settings)
    monkeypatch.setattr(work, "database", lambda: sqlite)
    now = time.time()
    with sqlite.write() as session:
        for number, days in ((1, 31), (2, 29), (3, 400)):
            at = datetime.fromtimestamp(now - days * 86400, UTC)
            upsert(session, [interaction(number, time=at)])
    assert work.retention() == "erased 2 interactions and judgements older than 30 days"
    with sqlite.read() as session:
        assert list(session.scalars(select(InteractionRow.id))) == ["chatcmpl-0002"]
    monkeypatch.setattr(work, "settings", lambda: LearnerSettings(data_dir=tmp_path))
    assert work.retention() is None


def test_every_kind_has_a_time_of_its_own(
    sqlite: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stream: RedisStream,
    redis_url: str,
):
    settings = LearnerSettings(
        data_dir=tmp_path,
        redis_url=redis_url,
        retention_deadletter_days=1e-9,
        retention_session_days=1e-9,
        retention_record_days=3.0,
    )
    for name, part in (("settings", settings), ("database", sqlite), ("stream", stream)):
        monkeypatch.setattr(work, name, lambda part=part: part)
    with sqlite.write() as session:
        upsert(session, [interaction(1), thumbs(1)])
    stream.publish([StreamRecord(FEEDBACK, "k", b"?", {"ce_id": "x"})])
    [record] = stream.read(FEEDBACK, 0, None)
    dead_letter(stream, record, ValueError("no event"), 1)

    async def remember() -> None:
        redis = connect(redis_url)
        store = MemoryStore(redis, len)
        await store.append("local", "s", [{"role": "user", "content": "hello"}])
        await store.records.put("local", {"text": "ada lives here"})
        await redis.aclose()

    asyncio.run(remember())
    assert work.retention() == (
        "erased 1 dead letters older than 1e-09 days;"
        " erased 1 sessions of memory older than 1e-09 days;"
        " erased 0 records of memory older than 3 days"
    )
    assert list(letters(stream, FEEDBACK)) == []
    with sqlite.read() as session:
        assert len(list(session.scalars(select(InteractionRow.id)))) == 1
