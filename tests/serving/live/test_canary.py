"""A challenger answers a share of end users: the same ones on every replica, whoever is asked and when."""

from __future__ import annotations

from collections.abc import Callable

import pytest
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


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_at_a_small_share_stays_in_as_it_grows(challenger, user, one, other):
    small, large = sorted((one, other))
    assert 0 <= canary.place(challenger, user) < 1
    assert canary.is_in(challenger, user, small) <= canary.is_in(challenger, user, large)
    assert not canary.is_in(challenger, user, 0.0)
    assert not canary.is_in(challenger, None, 1.0)


def test_arms_are_as_large_as_the_share_and_drawn_anew_for_each_challenger():
    def arm(challenger: str) -> set[int]:
        return {n for n in range(10_000) if canary.is_in(challenger, f"t/{n}", SHARE)}

    first, second = arm("default@2"), arm("default@3")
    assert len(first) / 10_000 == pytest.approx(SHARE, abs=0.02)
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
