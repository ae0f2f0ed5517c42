"""A challenger answers a share of end users: the same ones on every replica, whoever is asked and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from burnish.serving.api.answering import lease_of
from burnish.serving.api.auth import LOCAL
from burnish.serving.engine import StubEngine
from burnish.serving.live import canary
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings
from hypothesis import given
from hypothesis import strategies as st

from tests.serving.conftest import Running
from tests.waiting import eventually

USERS = [f"user-{n}" for n in range(60)]
SHARE = 0.3


@given(st.text(), st.text(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_nobody_changes_arms_as_the_share_grows(salt, user, one, other):
    small, large = sorted((one, other))
    assert 0 <= canary.place(salt, user) < 1
    before = canary.arm_of(salt, user, small)
    assert before in (None, canary.arm_of(salt, user, large))
    assert canary.arm_of(salt, user, 0.0) is None
    assert canary.arm_of(salt, user, 0.5) is not None


@given(st.text(), st.text(), st.floats(0.01, 0.5))
def test_a_user_is_the_same_unit_at_every_share_and_another_in_every_canary(salt, user, share):
    assigned = canary.assign(salt, user, share, 2)
    if assigned is not None:
        assert assigned.arm == canary.arm_of(salt, user, share)
        assert assigned == canary.assign(salt, user, share, 2)
        assert assigned.subject != canary.subject_of(f"{salt}'", user)
    assert canary.assign(salt, None, share, 2) is None


def test_both_arms_are_as_large_as_the_share_and_drawn_anew_for_each_canary():
    def arm(salt: str, name: str) -> set[int]:
        return {n for n in range(10_000) if canary.arm_of(salt, f"t/{n}", SHARE) == name}

    first, second = arm("a", "challenger"), arm("b", "challenger")
    assert len(first) / 10_000 == pytest.approx(SHARE, abs=0.02)
    assert len(arm("a", "champion")) / 10_000 == pytest.approx(SHARE, abs=0.02)
    assert len(first & second) / len(first) == pytest.approx(SHARE, abs=0.04)


@pytest.fixture
def registry() -> StubRegistry:
    return StubRegistry()


@pytest.fixture
def start(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry, tmp_path
) -> Callable[[str], Running]:
    """A replica; after the first one has registered the base there is a challenger."""

    def start(name: str) -> Running:
        own = {"canary_share": SHARE, "data_dir": tmp_path / name}
        live = serve(settings.model_copy(update=own), StubEngine("Hello."), registry)
        if len(registry.versions("default")) == 1:
            registry.set_alias("default", "challenger", registry.add())
        return live

    return start


def state(replica: Running) -> dict:
    return replica.http("GET", "/v1/policies").json()["data"][0]


def arms(replica: Running) -> dict[str, str]:
    """Which version answers whom."""
    return {user: replica.say("Hi", user=user).system_fingerprint for user in USERS}


def test_users_stay_on_their_arm_on_every_replica_and_after_a_restart(start, registry):
    replicas = [start("a"), start("b")]
    for replica in replicas:
        eventually(lambda r=replica: state(r)["challenger"] == 2)
    first, second = map(arms, replicas)
    assert first == second
    assert set(first.values()) == {"default@1", "default@2"}
    assert 0.1 < sum(ref == "default@2" for ref in first.values()) / len(USERS) < 0.5
    replicas.pop().stop()
    back = start("b")
    eventually(lambda: state(back)["challenger"] == 2)
    assert arms(back) == first


def test_whoever_names_no_user_stays_with_the_champion(start):
    live = start("a")
    eventually(lambda: state(live)["challenger"] == 2)
    assert {live.say("Hi").system_fingerprint for _ in range(20)} == {"default@1"}
    assert live.say("Hi", model="default@2").system_fingerprint == "default@2"


def test_a_session_stays_on_its_arm_where_no_user_is_named(start):
    live = start("a")
    eventually(lambda: state(live)["challenger"] == 2)

    def answers(session: str) -> str:
        # Held, since releasing it is for the service's own loop.
        return asyncio.run(lease_of(live.service, "default", LOCAL, None, session)).ref

    first = {f"s{n}": answers(f"s{n}") for n in range(30)}
    assert set(first.values()) == {"default@1", "default@2"}
    assert {session: answers(session) for session in first} == first


def test_the_share_that_the_learner_sets_is_followed(start, registry):
    live = start("a")
    registry.canaries.begin("default", 2, 0.05, who="canary")
    eventually(lambda: state(live)["share"] == 0.05)
    few = {user for user, ref in arms(live).items() if ref == "default@2"}
    registry.canaries.ramp("default", 0.5, who="canary")
    eventually(lambda: state(live)["share"] == 0.5)
    many = {user for user, ref in arms(live).items() if ref == "default@2"}
    assert few < many
    registry.canaries.withdraw("default", who="canary")
    eventually(lambda: state(live)["challenger"] is None)
    assert set(arms(live).values()) == {"default@1"}


def test_which_arm_answered_is_told_recorded_and_counted(start, registry):
    live = start("a")
    registry.canaries.begin("default", 2, 0.3, who="canary")
    eventually(lambda: state(live)["share"] == 0.3)
    of: dict[str | None, set[str]] = {"champion": set(), "challenger": set(), None: set()}
    for user in USERS:
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}], "user": user}
        answer = live.http("POST", "/v1/chat/completions", json=body)
        told = answer.json()
        (event,) = [e for e in live.recorded() if e.id == told["id"]]
        assert answer.headers["X-Burnish-Version"] == told["system_fingerprint"]
        assert answer.headers["X-Burnish-Arm"] == told["arm"]
        assert event.seconds is not None
        if event.arm is not None:
            assert (event.arm.name, event.arm.challenger) == (told["arm"], 2)
        of[event.arm and event.arm.name].add(user)
    assert all(of.values())
    counted = live.http("GET", "/metrics").text
    for arm in ("champion", "challenger"):
        line = f'burnish_arm_answers_total{{arm="{arm}",outcome="answered",policy="default"}}'
        assert f"{line} {len(of[arm])}.0" in counted
    assert 'burnish_canary_share{policy="default"} 0.3' in counted


def test_a_version_asked_for_by_number_is_of_no_arm(start):
    body = {"model": "default@1", "messages": [{"role": "user", "content": "Hi"}], "user": "ada"}
    answer = start("a").http("POST", "/v1/chat/completions", json=body)
    assert answer.json()["arm"] is None
    assert "X-Burnish-Arm" not in answer.headers


def test_a_challenger_that_is_withdrawn_or_promoted_leaves_no_arm(start, registry):
    live = start("a")
    eventually(lambda: state(live)["challenger"] == 2)
    registry.set_alias("default", "challenger", None)
    eventually(lambda: state(live)["challenger"] is None)
    assert set(arms(live).values()) == {"default@1"}
    registry.set_alias("default", "challenger", 2)
    eventually(lambda: state(live)["challenger"] == 2)
    registry.promote("default", 2)
    eventually(lambda: (state(live)["champion"], state(live)["challenger"]) == (2, None))
    assert set(arms(live).values()) == {"default@2"}


def test_a_challenger_that_cannot_be_served_harms_nobody(start, registry, caplog):
    live = start("a")
    eventually(lambda: state(live)["challenger"] == 2)
    registry.set_alias("default", "challenger", registry.add(weights=b""))
    eventually(lambda: "challenger 3 cannot be served" in caplog.text)
    assert set(arms(live).values()) == {"default@1"}
    assert state(live)["champion"] == 1
    registry.set_alias("default", "challenger", 2)
    eventually(lambda: state(live)["challenger"] == 2)
    registry.set_alias("default", "challenger", 3)
    eventually(lambda: state(live)["challenger"] is None)
