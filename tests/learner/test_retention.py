"""The retention tick: only where a time is set, and only what is older."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from burnish.feedback.contract import RETENTION_TASK
from burnish.learner import work
from burnish.learner.app import make_app
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import InteractionRow
from sqlalchemy import select

from tests.learner.conftest import interaction


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
