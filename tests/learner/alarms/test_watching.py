"""Alarms as they open, close, are kept and told: on a real database and a real Redis."""

import json

import pytest
from burnish.feedback.contract import ALARMS_PREFIX
from burnish.feedback.events import Completion
from burnish.learner.alarms import history
from burnish.learner.alarms.watching import Watch
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings

from tests.learner.conftest import interaction

LIMITS = "epoch: 200\nreference: 200\nfewest: 20\nalpha: 0.01\n"
REFUSAL = "I'm sorry, but I can't help with that."


@pytest.fixture
def watch(database: Database, redis_client, redis_url, tmp_path) -> Watch:
    file = tmp_path / "alarms.yaml"
    file.write_text(LIMITS)
    settings = LearnerSettings(data_dir=tmp_path, redis_url=redis_url, alarm_limits=file)
    return Watch(database, redis_client, settings)


def answer(database: Database, numbers: range, version: int, text: str = "Here it is.") -> None:
    completion = Completion(
        index=0,
        token_ids=[4, 5],
        logprobs=[-0.5, -0.25],
        processed_logprobs=[-0.5, -0.25],
        text=text,
        finish_reason="stop",
    )
    with database.write() as session:
        upsert(
            session, [interaction(n, version=version, completions=[completion]) for n in numbers]
        )


def open_names(watch: Watch) -> list[str]:
    with watch.database.read() as session:
        return [alarm.name for alarm in history.open_alarms(session, "default")]


def test_a_version_that_begins_to_refuse_opens_an_alarm_which_closes_once_it_is_over(watch: Watch):
    answer(watch.database, range(100), 1)
    answer(watch.database, range(100, 200), 2)
    assert watch.look("default", [2]) == []
    answer(watch.database, range(200, 300), 2, REFUSAL)
    (alarm,) = watch.look("default", [2])
    assert alarm.sentence.startswith(
        "refusals of default@2: answers that refuse: 50 %, before it 0 %"
    )
    answer(watch.database, range(300, 420), 2)
    watch.look("default", [2])
    assert open_names(watch) == ["refusals"], "not sure yet"
    answer(watch.database, range(420, 1000), 2)
    for _ in range(3):  # epochs
        watch.look("default", [2])
    assert open_names(watch) == []
    with watch.database.read() as session:
        (kept,) = history.alarms(session, "default")
        assert kept.closed_at is not None
        assert {row.name for row in history.readings(session, "default")} == {
            *("tool_failures", "questions", "refusals", "length", "entropy", "opener"),
            *("foreseen", "kl", "prompts", "tastes"),
        }


def test_it_closes_when_its_version_serves_no_longer(watch: Watch):
    answer(watch.database, range(100), 1)
    answer(watch.database, range(100, 200), 2, REFUSAL)
    assert [alarm.version for alarm in watch.look("default", [1, 2])] == [2]
    assert watch.look("default", [1]) == []
    with watch.database.read() as session:
        assert {a.closed_because for a in history.alarms(session, "default")} == {
            "version 2 serves no longer"
        }


def test_a_silenced_alarm_is_open_and_holds_nothing_for_a_while(watch: Watch):
    answer(watch.database, range(100), 1)
    answer(watch.database, range(100, 200), 2, REFUSAL)
    found = watch.look("default", [2])
    with watch.database.write() as session:
        for alarm in found:
            assert history.silence(session, alarm.id, until=1e12, who="ann", why="known")
        assert history.silence(session, "alarm-0", until=1e12, who="ann", why="") is None
    assert watch.look("default", [2]) == []
    assert len(open_names(watch)) == len(found)
    watch.clock = lambda: 2e12
    assert len(watch.look("default", [2])) == len(found), "the while is over"


def test_without_answers_of_versions_before_nothing_is_compared(watch: Watch):
    answer(watch.database, range(100), 1, REFUSAL)
    assert watch.look("default", [1]) == []
    with watch.database.read() as session:
        row = next(r for r in history.readings(session, "default") if r.name == "refusals")
    assert (row.state, "0 before it" in row.says) == ("few", True)


def test_serving_is_told(watch: Watch, redis_client):
    answer(watch.database, range(100), 1)
    answer(watch.database, range(100, 200), 2, REFUSAL)
    watch.look("default", [2])
    told = json.loads(redis_client.get(ALARMS_PREFIX + "default"))
    assert {alarm["name"] for alarm in told["open"]} == {"refusals"}
    assert {reading["name"] for reading in told["readings"]} >= {"kl", "length"}
