"""The Celery app: its terms, and a real worker and beat on a real Redis."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from burnish.feedback.contract import (
    ALARMS_TASK,
    CANARY_TASK,
    COMPACTOR_TASK,
    ERASE_TASK,
    INTAKE_TASK,
    RELEASE_TASK,
    REWARD_TASK,
    UPDATE_TASK,
)
from burnish.feedback.events import encode
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner.app import make_app
from burnish.learner.database import Database
from burnish.learner.reward import experience
from burnish.learner.settings import LearnerSettings
from sqlalchemy.exc import OperationalError

from tests.conftest import RedisServer
from tests.learner.conftest import interaction, latest_ticks, thumbs
from tests.waiting import eventually


def test_a_task_is_delivered_again_rather_than_lost(tmp_path: Path):
    conf = make_app(LearnerSettings(data_dir=tmp_path)).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.accept_content == ["json"]
    assert conf.worker_pool_start_method == "spawn"
    assert conf.broker_transport_options["global_keyprefix"] == "burnish:celery:"
    assert conf.broker_connection_max_retries is None


@pytest.mark.parametrize("seconds", [1.0, 15.0, 3600.0])
def test_a_hanging_tick_is_killed_before_it_is_delivered_again(tmp_path: Path, seconds: float):
    conf = make_app(LearnerSettings(data_dir=tmp_path, update_seconds=seconds)).conf
    visible_again = conf.broker_transport_options["visibility_timeout"]
    assert seconds < conf.task_time_limit < visible_again


@pytest.mark.parametrize(
    ("every", "where", "ticks"),
    [(20.0, None, None), (5400.0, "worker", 1), (5400.0, None, 1000), (20.0, "process", 1000)],
)
def test_nothing_stays_loaded_through_a_long_rest(tmp_path: Path, every, where, ticks):
    settings = LearnerSettings(data_dir=tmp_path, update_every=every, update_job=where)
    conf = make_app(settings).conf
    assert conf.worker_max_tasks_per_child == ticks
    assert ("jobs" in conf.beat_schedule) == (ticks == 1000), "what looks after them"


def test_ticks_expire_before_the_next_is_due(tmp_path: Path):
    settings = LearnerSettings(data_dir=tmp_path, policies=["default", "shop"], update_every=30)
    schedule = make_app(settings).conf.beat_schedule
    assert {entry["task"] for entry in schedule.values()} == {
        INTAKE_TASK,
        UPDATE_TASK,
        COMPACTOR_TASK,
        REWARD_TASK,
        ERASE_TASK,
        RELEASE_TASK,
        ALARMS_TASK,
    }
    for task in (UPDATE_TASK, REWARD_TASK, ALARMS_TASK):
        policies = [entry["args"] for entry in schedule.values() if entry["task"] == task]
        assert policies == [["default"], ["shop"]]
    assert all(e["options"]["expires"] <= e["schedule"] for e in schedule.values())


@pytest.mark.parametrize(
    ("every", "promotes", "looked_at"),
    [
        (5400.0, None, True),
        (20.0, None, False),
        (20.0, "challenger", True),
        (5400.0, "champion", False),
    ],
)
def test_canaries_are_looked_at_beside_the_intake_where_there_are_any(
    tmp_path: Path, every, promotes, looked_at
):
    settings = LearnerSettings(data_dir=tmp_path, update_every=every, promotes=promotes)
    conf = make_app(settings).conf
    found = [e for e in conf.beat_schedule.values() if e["task"] == CANARY_TASK]
    assert [(e["args"], e["options"]["queue"]) for e in found] == (
        [(["default"], "intake")] if looked_at else []
    )
    assert conf.task_routes[CANARY_TASK] == {"queue": "intake"}


def test_reward_models_are_published_by_updates_alone_where_nobody_looks(tmp_path: Path):
    schedule = make_app(LearnerSettings(data_dir=tmp_path, reward_every=0)).conf.beat_schedule
    assert REWARD_TASK not in {entry["task"] for entry in schedule.values()}


def test_sending_a_task_needs_nothing_heavy():
    """Beat, and whoever only asks for an update, must start in a blink."""
    code = (
        "import sys, burnish.learner.app; "
        "print([m for m in ('torch', 'mlflow', 'transformers', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def ended(children: list[subprocess.Popen]) -> bool:
    return any(child.poll() is not None for child in children)


def test_worker_and_beat_outlive_a_restart_of_redis(
    tmp_path: Path, redis_of_its_own: RedisServer
) -> None:
    server = redis_of_its_own
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "BURNISH_REDIS_URL": server.url,
        "BURNISH_DATA_DIR": str(tmp_path),
        "BURNISH_INTAKE_EVERY": "0.5",
    }
    celery = [sys.executable, "-m", "celery", "-q", "-A", "burnish.learner.app:app"]
    worker = ["worker", "-c", "1", "-Q", "intake,update", "--without-gossip", "--without-mingle"]
    database = Database(f"sqlite:///{tmp_path}/experience.db")

    def publish(number: int) -> None:
        stream = RedisStream(server.url)
        stream.publish([encode(interaction(number)), encode(thumbs(number))])
        stream.close()

    def learnt(count: int) -> bool:
        try:
            with database.read() as session:
                return experience.count(session, "default") == count
        except OperationalError:
            return False  # not migrated yet

    with (tmp_path / "log").open("wb") as log:
        children = [
            subprocess.Popen([*celery, *arguments], env=environment, stdout=log, stderr=log)
            for arguments in (worker, ["beat", "--pidfile="])
        ]
        try:
            publish(1)
            eventually(lambda: learnt(1) or ended(children), seconds=240)
            for number, away in ((2, 0.0), (3, 8.0)):
                server.kill()
                time.sleep(away)
                server.start()
                publish(number)
                back = time.monotonic()
                eventually(lambda n=number: learnt(n) or ended(children), seconds=60)
                assert not ended(children), (tmp_path / "log").read_text()
                # 5 s on a machine of one's own; a shared one is slower, but not Celery's 30 s.
                assert time.monotonic() - back < 20, (tmp_path / "log").read_text()
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(60)
    database.close()
    assert not list(tmp_path.glob("*schedule*")), "beat keeps no file"


def test_worker_and_beat_consume_events(tmp_path: Path, redis_url: str, redis_client: redis.Redis):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "BURNISH_REDIS_URL": redis_url,
        "BURNISH_DATA_DIR": str(tmp_path),
        "BURNISH_INTAKE_EVERY": "0.5",
    }
    celery = [sys.executable, "-m", "celery", "-A", "burnish.learner.app"]
    stream = RedisStream(redis_url)
    stream.publish([encode(interaction(1)), encode(thumbs(1))])
    with (tmp_path / "log").open("wb") as log:
        children = [
            subprocess.Popen([*celery, *arguments], env=environment, stdout=log, stderr=log)
            for arguments in (["worker", "-c", "1", "-Q", "intake,update"], ["beat"])
        ]
        try:
            eventually(lambda: latest_ticks(redis_client) or ended(children), seconds=240)
            assert not ended(children), (tmp_path / "log").read_text()
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait(60)
    stream.close()
    database = Database(f"sqlite:///{tmp_path}/experience.db")
    with database.read() as session:
        assert experience.count(session, "default") == 1
    database.close()
