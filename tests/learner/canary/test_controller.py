"""The canary's tick, on a real database, Redis and registry: from an alias to a champion, or back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from burnish.feedback.contract import CANARY_PREFIX, failed_key
from burnish.feedback.events import Arm
from burnish.learner.canary import shadow
from burnish.learner.canary.controller import Controller
from burnish.learner.database import Database
from burnish.learner.gate.report import Check
from burnish.learner.intake.erasure import erase_user
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import CanaryObservationRow, CanaryRow, TickRow
from burnish.serving.registry import StubRegistry
from sqlalchemy import select

from tests.learner.conftest import START, interaction, latest_ticks, retraction, thumbs

BEGAN = START.timestamp()
FEW = "default:\n  users: 40\n  shares: [0.1, 0.25, 0.5]\n"


@pytest.fixture
def registry() -> StubRegistry:
    made = StubRegistry()
    made.ensure_base("default", "model", "base")
    made.add()
    return made


class Clock:
    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def look(
    database: Database, registry: StubRegistry, redis_url, redis_client, clock, tmp_path: Path
) -> Callable[..., str | None]:
    """One tick, by a controller that has just been started; what it said."""
    file = tmp_path / "canary.yaml"
    file.write_text(FEW)
    settings = LearnerSettings(
        redis_url=redis_url, data_dir=tmp_path, canary_settings=file, promotes="challenger"
    )

    def look(*alarms: str) -> str | None:
        made = Controller(settings, database, registry, redis_client, clock).tick("default", alarms)
        return made.did if made else None

    return look


def told(client: redis.Redis) -> dict:
    found = client.get(f"{CANARY_PREFIX}default")
    return json.loads(found)  # type: ignore[arg-type]


def vote(
    database: Database, numbers: range, arm, value: str, *, subject: str = "", user: str = ""
) -> None:
    """So many users of an arm, each of whom was answered and votes."""
    with database.write() as session:
        for number in numbers:
            person = user or f"user-{number}"
            told = Arm(name=arm, challenger=2, subject=subject or f"subject-{number}")
            asked = interaction(
                number, user=person, arm=told, seconds=1.0, version=2 if arm == "challenger" else 1
            )
            upsert(session, [asked, thumbs(number, value, user=person)])


def begin(look, registry) -> None:
    registry.set_alias("default", "challenger", 2)
    assert look() == "default@2 answers 10% of users, beside default@1"


def state(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(row.state, row.why) for row in session.scalars(select(CanaryRow))]


def test_without_a_challenger_there_is_nothing_to_do(look, database):
    assert look() is None
    assert state(database) == []


def test_a_challenger_that_people_like_better_is_promoted(look, registry, database, redis_client):
    begin(look, registry)
    canary = registry.canaries.of("default")
    assert canary is not None
    assert (canary.version, canary.share) == (2, 0.1)
    vote(database, range(1, 41), "challenger", "up")
    vote(database, range(41, 81), "champion", "down")
    said = look()
    assert said is not None
    assert said.startswith("promoted default@2: people like it better: by +0.")
    assert registry.champion_version("default") == 2
    assert registry.challenger_version("default") is None
    assert registry.history("default")[-1].who == "canary"
    shown = told(redis_client)
    assert (shown["state"], shown["share"], shown["figures"]["compared"]) == ("promoted", 0.0, 40)
    assert shown["figures"]["thumbs"]["champion"] == {"users": 40, "mean": 0.0}
    assert latest_ticks(redis_client)[0]["did"] == said
    with database.read() as session:
        assert {row.kind for row in session.scalars(select(TickRow))} == {"canary"}
        assert not session.scalars(
            select(CanaryObservationRow).where(CanaryObservationRow.subject.is_not(None))
        ).all()
    assert look() is None


def test_one_that_people_like_less_is_withdrawn_and_the_champion_stays(look, registry, database):
    begin(look, registry)
    vote(database, range(1, 41), "challenger", "down")
    vote(database, range(41, 81), "champion", "up")
    said = look()
    assert said is not None
    assert said.startswith("withdrew default@2: surely more than is allowed: people like it less")
    assert (registry.champion_version("default"), registry.challenger_version("default")) == (
        1,
        None,
    )
    assert [row[0] for row in state(database)] == ["withdrawn"]


def test_the_share_grows_with_what_is_known_and_a_pause_holds_it(look, registry, database):
    begin(look, registry)
    registry.canaries.pause("default", who="ada")
    for number in range(1, 37):
        value = "up" if number % 2 else "down"
        vote(database, range(number, number + 1), "challenger", value)
        vote(database, range(100 + number, 101 + number), "champion", value)
    assert look() is None
    assert state(database) == [("running", "ada has paused it")]
    registry.canaries.resume("default", who="ada")
    said = look()
    assert said is not None
    assert said.startswith("default@2 answers 25% of users now")
    grown = registry.canaries.of("default")
    assert grown is not None
    assert grown.share == 0.25


def test_an_open_alarm_withdraws_it_though_nobody_has_voted(look, registry):
    begin(look, registry)
    assert look("refusals doubled") == "withdrew default@2: an alarm is open: refusals doubled"
    assert registry.challenger_version("default") is None


def test_failed_requests_of_its_users_withdraw_it(look, registry, redis_client):
    begin(look, registry)
    key = failed_key("default", 2, "challenger")
    redis_client.sadd(key, *(f"subject-{n}" for n in range(9)))
    assert look() is None
    redis_client.sadd(key, "one-more")
    said = look()
    assert said is not None
    assert "requests fail more often" in said


def test_too_little_traffic_ends_after_its_hours(look, registry, database, clock):
    begin(look, registry)
    clock.now += 3 * 3600
    assert look() is None
    assert "traffic is too little" in state(database)[0][1]
    clock.now += 3 * 3600
    said = look()
    assert said is not None
    assert said.startswith("promoted default@2: only 0 users of each arm have voted in 6.0 hours")
    assert registry.champion_version("default") == 2


def test_a_user_counts_once_by_the_first_vote_that_stands_and_is_their_own(
    look, registry, database, redis_client
):
    begin(look, registry)
    vote(database, range(1, 2), "challenger", "down", subject="ada", user="ada")
    with database.write() as session:
        upsert(session, [retraction(1), thumbs(90, "down", on=2, user="somebody-else")])
    look()
    assert told(redis_client)["figures"]["thumbs"]["challenger"]["users"] == 0
    vote(database, range(2, 5), "challenger", "up", subject="ada", user="ada")
    look()
    vote(database, range(5, 9), "challenger", "down", subject="ada", user="ada")
    look()
    shown = told(redis_client)["figures"]
    assert shown["thumbs"]["challenger"] == {"users": 1, "mean": 1.0}
    assert shown["tokens"]["challenger"] == {"users": 1, "mean": 2.0}


def test_a_user_who_is_erased_leaves_a_vote_that_is_nobodys(look, registry, database):
    begin(look, registry)
    vote(database, range(1, 3), "challenger", "up")
    look()
    with database.write() as session:
        erase_user(session, "local", "user-1", BEGAN + 10**6)
    with database.read() as session:
        subjects = {row.subject for row in session.scalars(select(CanaryObservationRow))}
    assert subjects == {None, "subject-2"}


@pytest.mark.parametrize("how", ["withdrawn", "promoted", "champion moved"])
def test_who_moves_an_alias_ends_it(look, registry, database, how):
    begin(look, registry)
    if how == "withdrawn":
        registry.canaries.withdraw("default", who="ada")
    elif how == "promoted":
        registry.promote("default", 2, who="ada")
    else:
        registry.promote("default", registry.add(), who="ada")
    said = look()
    assert said is not None
    assert said.startswith("the canary of default@2 is over: somebody")
    assert [row[0] for row in state(database)] == ["outside"]
    again = look()
    begun_anew = "default@2 answers 10% of users, beside default@3"
    assert again == (begun_anew if how == "champion moved" else None)


def test_a_tick_that_died_after_the_registry_was_asked_is_finished_by_the_next(
    look, registry, database, monkeypatch
):
    begin(look, registry)
    monkeypatch.setattr(Controller, "_finish", _die)
    with pytest.raises(RuntimeError, match="killed"):
        look("refusals doubled")
    monkeypatch.undo()
    said = look()
    assert said == "the canary of default@2 is over: an alarm is open: refusals doubled"
    assert [row[0] for row in state(database)] == ["withdrawn"]


def test_in_shadow_nobody_meets_it_until_the_reward_model_has_compared(
    look, registry, database, redis_client, tmp_path
):
    (tmp_path / "canary.yaml").write_text(FEW + "  shadow: 32\n")
    registry.set_alias("default", "challenger", 2)
    assert look() == "default@2 answers 0% of users, beside default@1"
    assert look() is None
    assert "32 logged prompts first, which nobody sees" in state(database)[0][1]
    with database.read() as session:
        row = shadow.waiting(session, redis_client, "default")
    assert row is not None
    compared = Check(
        name="preference/base", value=0.01, passed=True, says="thumbs rose", bounds=(-0.02, 0.04)
    )
    shadow.tell(redis_client, row.id, compared)
    with database.read() as session:
        assert shadow.waiting(session, redis_client, "default") is None
    assert look() == "default@2 answers 10% of users now: in shadow, thumbs rose"


def test_settings_that_cannot_be_used_are_said_once(look, registry, redis_client, tmp_path):
    (tmp_path / "canary.yaml").write_text("default:\n  hour: 3\n")
    registry.set_alias("default", "challenger", 2)
    assert look() == "led no canary"
    assert "hour is no setting" in latest_ticks(redis_client)[0]["why_not"]
    assert look() is None


def _die(*_: object) -> None:
    raise RuntimeError("killed")
