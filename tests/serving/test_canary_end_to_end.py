"""A canary from an alias in MLflow to its end: real app, spool, stream, intake, database, registry and controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from burnish.feedback.audit import AuditLog
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.opening import open_stream
from burnish.learner.canary.controller import Controller
from burnish.learner.database import Database
from burnish.learner.intake.sharing import consume_shared
from burnish.learner.lease import Lease
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import ArmRow, JudgementRow
from burnish.serving.engine import StubEngine
from burnish.serving.registry import PolicyRegistry
from burnish.serving.settings import ServingSettings
from sqlalchemy import func, select

from tests.serving.conftest import Running
from tests.waiting import eventually

USERS = [f"user-{n}" for n in range(60)]


@pytest.fixture
def running(
    serve: Callable[..., Running],
    settings: ServingSettings,
    registry: PolicyRegistry,
    redis_url: str,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> Running:
    registry._audit = AuditLog(tmp_path)
    changed = settings.model_copy(update={"redis_url": redis_url})
    return serve(changed, StubEngine("Hello there."), registry)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/experience.db")
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def take_in(
    running: Running, database: Database, redis_url: str, redis_client: redis.Redis
) -> Iterator[Callable[[], None]]:
    """One tick of the intake."""
    stream = open_stream(StreamSettings(redis_url=redis_url))
    stream.ensure_topics()

    def take_in() -> None:
        consume_shared(
            database, stream, lambda name: Lease(redis_client, name, 30.0, database=database)
        )

    yield take_in
    stream.close()


@pytest.fixture
def controller(
    database: Database,
    registry: PolicyRegistry,
    redis_url: str,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> Controller:
    file = tmp_path / "canary.yaml"
    file.write_text("default:\n  shares: [0.5]\n  users: 100\n")
    settings = LearnerSettings(redis_url=redis_url, data_dir=tmp_path, canary_settings=file)
    return Controller(settings, database, registry, redis_client)


def counted(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.timeout(600)
def test_a_version_that_people_dislike_is_withdrawn_and_nobody_is_refused(
    running, registry, controller, database, take_in, make_adapter
):
    version = registry.register("default", make_adapter(), parent=1, lineage={}).version
    registry._store.set_alias("default", "challenger", version)  # as in MLflow's page
    began = controller.tick("default")
    assert began is not None
    assert began.did == f"default@{version} answers 50% of users, beside default@1"
    canary = "/v1/policies/default/canary"
    eventually(lambda: running.http("GET", "/v1/policies/default").json()["share"] == 0.5)

    arms = {}
    for user in USERS:
        answer = running.say("Hi", user=user)
        arms[user] = answer.arm
        judged = {"interaction_id": answer.id, "name": "thumbs", "user": user}
        value = "down" if answer.arm == "challenger" else "up"
        accepted = running.http("POST", "/v1/feedback", json=judged | {"value": value})
        assert accepted.status_code == 202
    assert set(arms.values()) == {"champion", "challenger"}

    def all_arrived() -> bool:
        take_in()
        return counted(database, JudgementRow) == len(USERS) == counted(database, ArmRow)

    eventually(all_arrived, seconds=120)
    ended = controller.tick("default")
    assert ended is not None
    assert ended.did.startswith(f"withdrew default@{version}: ")
    assert "people like it less" in ended.did

    eventually(lambda: running.http("GET", "/v1/policies/default").json()["challenger"] is None)
    told = running.http("GET", canary).json()
    assert (told["running"], told["last"]["state"]) == (None, "withdrawn")
    assert told["says"] == ended.did
    users = told["last"]["figures"]["thumbs"]["challenger"]["users"]
    assert users == sum(arm == "challenger" for arm in arms.values())
    assert {running.say("Hi", user=user).system_fingerprint for user in USERS} == {"default@1"}
    noted = [(e.who, e.what) for e in registry._audit.entries()]
    assert noted[-2:] == [("canary", "canary begins"), ("canary", "canary withdrawn")]
