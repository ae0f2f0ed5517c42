"""A data folder whose disk is full: chat goes on, what cannot be stored is refused with the reason."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
import redis
from burnish.ops.bench.lib.small_disk import SmallDisk
from burnish.serving.engine import StubEngine
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

MB = 10**6
LOW_MB = 36  # full below 9: the spool's reserve of 8, given up, must not look like room
STEP = {"events": [{"role": "user", "content": "my cat is called Miso"}]}


@pytest.fixture
def on_small_disk(
    serve: Callable[..., Running],
    settings: ServingSettings,
    small_disk: SmallDisk,
    redis_url: str,
    redis_client: redis.Redis,
) -> Running:
    where = {"data_dir": small_disk.folder, "redis_url": redis_url, "disk_low_mb": LOW_MB}
    return serve(settings.model_copy(update=where), StubEngine("Hello there."))


def thumb(running: Running, interaction: str):
    body = {"interaction_id": interaction, "name": "thumbs", "value": "up"}
    return running.http("POST", "/v1/feedback", json=body)


def readiness(running: Running) -> tuple[int, str, str]:
    ready = running.http("GET", "/readyz")
    return ready.status_code, ready.json()["status"], " ".join(ready.json()["problems"])


def test_chat_goes_on_and_the_rest_is_refused_until_there_is_space(
    on_small_disk: Running, small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    running = on_small_disk
    assert readiness(running) == (200, "ok", "")
    before = running.say("Hi").id

    small_disk.fill(leave=20 * MB)
    status, word, problems = readiness(running)
    assert (status, word) == (200, "degraded")
    assert f"the disk of {small_disk.folder}" in problems
    assert thumb(running, before).status_code == 202  # short of space, but not full

    small_disk.fill()
    assert running.say("Hi").choices[0].message.content == "Hello there."
    session = {"session_id": "s1"}
    assert running.say("Hi", extra_body=session).choices
    for refused in (
        thumb(running, before),
        running.http("POST", "/v1/memory/sessions/s1/events", json=STEP),
        running.http("DELETE", "/v1/memory/records/r1"),
    ):
        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (503, "disk_full")
        assert str(small_disk.folder) in error["message"]
        assert "MB free" in error["message"]
        assert "by itself" in error["message"]
        assert refused.headers["retry-after"] == "10"
    assert readiness(running)[:2] == (200, "degraded")
    assert running.http("GET", "/readyz").json()["unrecorded"] == 2
    assert running.http("GET", "/v1/memory/records").status_code == 200

    small_disk.clear()
    assert thumb(running, before).status_code == 202
    assert running.http("POST", "/v1/memory/sessions/s1/events", json=STEP).status_code == 201
    after = running.say("Hi").id
    eventually(lambda: readiness(running)[1] == "ok")
    eventually(lambda: running.http("GET", "/readyz").json()["stream"]["lag"] == 0)
    assert thumb(running, after).status_code == 202
    told = [r.getMessage() for r in caplog.records if r.name.endswith("recorder")]
    assert len(told) == 2  # however many answers it was
    assert told[0].startswith("answers are not recorded: ")
    assert told[1] == "recording again; 2 answers were not recorded"


def test_a_full_disk_is_named_where_redis_ended_of_it(
    serve: Callable[..., Running], settings: ServingSettings, small_disk: SmallDisk
) -> None:
    where = {"data_dir": small_disk.folder, "disk_low_mb": LOW_MB}
    running = serve(settings.model_copy(update=where), StubEngine("Hello there."))
    small_disk.fill()
    answer = running.http("GET", "/v1/memory/records")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_full")


def test_a_spool_damaged_while_it_runs_costs_no_answer_and_is_named(running: Running) -> None:
    interaction = running.say("Hi").id
    path = running.service.spool.path
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with closing(sqlite3.connect(path)) as db, db:  # so that no page is taken from the cache
        db.execute("PRAGMA user_version = 1")
    assert running.say("Hi").choices[0].message.content == "Hello there."
    refused = thumb(running, interaction)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "spool_failed")
    assert str(path) in refused.json()["error"]["message"]
    assert "burnish repair" in refused.json()["error"]["message"]
    assert "burnish repair" in readiness(running)[2]
