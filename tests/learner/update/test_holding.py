"""What keeps the champion where it is: a pause, or an alarm that is open and not silenced."""

import pytest
from burnish.learner.alarms.history import silence
from burnish.learner.alarms.watching import Watch
from burnish.learner.database import Database
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import AlarmRow
from burnish.learner.update.holding import watched, why_held
from burnish.serving.registry import StubRegistry


@pytest.fixture
def registry() -> StubRegistry:
    made = StubRegistry()
    made.ensure_base("default", "model", "f" * 64)
    return made


@pytest.fixture
def watch(sqlite: Database, redis_client, redis_url, tmp_path) -> Watch:
    return Watch(sqlite, redis_client, LearnerSettings(data_dir=tmp_path, redis_url=redis_url))


def open_alarm(watch: Watch, version: int = 1) -> None:
    with watch.database.write() as session:
        fields = {"policy": "default", "name": "length", "says": "twice as long"}
        session.add(AlarmRow(id="alarm-1", version=version, opened_at=1.0, **fields))


def test_where_nothing_is_open_nothing_holds(registry: StubRegistry, watch: Watch):
    assert why_held(registry, watch, "default") is None


def test_an_open_alarm_holds_until_somebody_silences_it(registry: StubRegistry, watch: Watch):
    open_alarm(watch)
    told = "an alarm is open: length of default@1: twice as long"
    assert why_held(registry, watch, "default") == told
    with watch.database.write() as session:
        assert silence(session, "alarm-1", until=1e12, who="ann", why="known")
    assert why_held(registry, watch, "default") is None


def test_an_alarm_of_a_version_that_serves_no_longer_holds_nothing(
    registry: StubRegistry, watch: Watch
):
    open_alarm(watch, version=7)
    assert why_held(registry, watch, "default") is None


def test_a_pause_holds_until_somebody_resumes(registry: StubRegistry, watch: Watch):
    registry.pause("default", who="ann", why="a fair")
    assert why_held(registry, watch, "default") == "promotion was paused by ann: a fair"
    assert registry.resume("default")
    assert not registry.resume("default")
    assert why_held(registry, watch, "default") is None


def test_a_tag_of_other_hands_is_a_pause_too(registry: StubRegistry, watch: Watch):
    registry.store.set_tag("default", "burnish.pause", "yes")
    assert "written by other hands" in (why_held(registry, watch, "default") or "")


def test_champion_and_challenger_are_watched(registry: StubRegistry):
    registry.set_alias("default", "challenger", registry.add())
    assert watched(registry, "default") == [1, 2]
