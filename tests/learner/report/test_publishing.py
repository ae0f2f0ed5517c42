"""After a tick the report lies in Redis; it is made anew only where something is new."""

import json
import subprocess
import sys

import pytest
import redis
from burnish.feedback.contract import REPORT_PREFIX
from burnish.learner import work
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.report import publishing
from burnish.learner.report.publishing import last_report, publish_report
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import FEATURES, FeatureRow
from burnish.learner.ticks import Tick, record

from tests.learner.conftest import interaction, thumbs
from tests.learner.report.rows import judged


@pytest.fixture
def settings(redis_url: str) -> LearnerSettings:
    return LearnerSettings(redis_url=redis_url)


def add(database: Database, numbers: range, version: int = 1, features: bool = False) -> None:
    """Votes of twenty people, two of three answers liked."""
    drawn = judged({version: len(numbers)}, taste=0.3, seed=numbers.start)
    with database.write() as session:
        events = []
        for number, vote in zip(numbers, drawn.votes, strict=True):
            user = f"user-{number % 20}"
            events.append(interaction(number, user=user, version=version))
            events.append(thumbs(number, "up" if vote.value else "down", user=user))
            if features:
                session.add(
                    FeatureRow(
                        interaction_id=f"chatcmpl-{number:04}",
                        choice=0,
                        base_sha256=f"base/{FEATURES}",
                        vector=drawn.features[vote.answer].tobytes(),
                    )
                )
        upsert(session, events)


def test_the_report_is_json_under_the_policys_key(
    database: Database, redis_client: redis.Redis, settings: LearnerSettings
):
    add(database, range(1, 151), features=True)
    made = publish_report(database, redis_client, settings, "default")
    told = json.loads(redis_client.get(REPORT_PREFIX + "default"))  # type: ignore[arg-type]
    assert (told["votes"], told["people"], told["verdict"]) == (150.0, 20, "too few votes")
    assert told["discrimination"]["auroc"] > 0.6
    assert told["findings"][0].startswith("Too few votes to compare versions")
    assert last_report(redis_client, "default") == made


def test_nothing_is_fitted_while_nothing_is_new(
    sqlite: Database, redis_client: redis.Redis, settings: LearnerSettings, monkeypatch
):
    add(sqlite, range(1, 101), features=True)
    first = publish_report(sqlite, redis_client, settings, "default")
    monkeypatch.setattr(publishing.reading, "read", None)  # cannot be called
    with sqlite.write() as session:
        record(session, Tick("update", "default", "trained nothing", "too few"))
    again = publish_report(sqlite, redis_client, settings, "default")
    assert again == first.model_copy(update={"last_update": "trained nothing: too few"})
    monkeypatch.undo()
    add(sqlite, range(101, 102))
    assert publish_report(sqlite, redis_client, settings, "default").votes == 101


def test_where_no_fit_is_wanted_the_last_ones_stand(
    sqlite: Database, redis_client: redis.Redis, settings: LearnerSettings
):
    add(sqlite, range(1, 101), features=True)
    first = publish_report(sqlite, redis_client, settings, "default")
    assert first.fitted_at == first.at
    add(sqlite, range(101, 201), version=2, features=True)
    second = publish_report(sqlite, redis_client, settings, "default", refit=False)
    assert second.votes == 200
    assert second.discrimination == first.discrimination
    assert second.fitted_at == first.fitted_at
    third = publish_report(sqlite, redis_client, settings, "default")
    assert third.fitted_at == third.at > first.at, "the votes are not new, but not fitted to yet"
    assert third.discrimination != first.discrimination


def test_a_report_that_cannot_be_read_is_made_anew(
    sqlite: Database, redis_client: redis.Redis, settings: LearnerSettings
):
    redis_client.set(REPORT_PREFIX + "default", '{"votes": "of another release"}')
    assert publish_report(sqlite, redis_client, settings, "default").verdict == "too few votes"
    assert last_report(redis_client, "default") is not None


def test_a_report_that_fails_fails_no_update(
    monkeypatch, caplog, settings: LearnerSettings, tmp_path
):
    broken = Database(f"sqlite:///{tmp_path}/empty.db")  # without tables
    monkeypatch.setattr(work, "database", lambda: broken)
    monkeypatch.setattr(work, "settings", lambda: settings)
    work.report("default", refit=True)
    assert "the report on default could not be made" in caplog.text
    broken.close()


def test_what_looks_after_jobs_needs_no_torch_to_tell():
    code = (
        "import sys; import burnish.learner.report.publishing;"
        " sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
