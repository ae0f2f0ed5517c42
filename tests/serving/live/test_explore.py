"""Exploring: some answers are the base's, so that people go on judging what they would no longer see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

SHARE = 0.3


@pytest.fixture
def registry() -> StubRegistry:
    return StubRegistry()


@pytest.fixture
def live(
    serve: Callable[..., Running], settings: ServingSettings, registry: StubRegistry
) -> Running:
    """Two versions, of which the second serves."""
    exploring = settings.model_copy(update={"explore": SHARE})
    running = serve(exploring, StubEngine("Hello."), registry)
    running.http("POST", "/v1/policies/default/promote", json={"version": registry.add()})
    # The draws are even: of ten requests in a row the base answers three.
    draws = (n / 10 for n in range(10**6))
    running.service.policies.draw = lambda: next(draws) % 1
    return running


def ask(live: Running, **more: object) -> dict:
    body = {"model": "default", "messages": [{"role": "user", "content": "Hi"}], **more}
    return live.http("POST", "/v1/chat/completions", json=body).json()


def test_the_base_gives_its_share_of_the_answers(live: Running) -> None:
    told = [ask(live) for _ in range(20)]
    assert [answer["arm"] for answer in told].count("base") == 6
    by_arm = {(answer["arm"], answer["system_fingerprint"]) for answer in told}
    assert by_arm == {("base", "default@1"), ("champion", "default@2")}


def test_what_it_answered_is_recorded_as_the_bases_and_can_be_judged(live: Running) -> None:
    told = ask(live)
    assert told["arm"] == "base"
    (event,) = [e for e in live.recorded() if e.id == told["id"]]
    assert (event.version, event.arm) == (1, None)
    judged = {"interaction_id": told["id"], "name": "thumbs", "value": "up"}
    assert live.http("POST", "/v1/feedback", json=judged).status_code == 202


def test_a_version_asked_for_by_number_answers(live: Running) -> None:
    asked = {ask(live, model="default@2")["system_fingerprint"] for _ in range(10)}
    assert asked == {"default@2"}


def test_a_canary_keeps_its_users(live: Running, registry: StubRegistry) -> None:
    challenger = registry.add()
    registry.set_alias("default", "challenger", challenger)
    registry.canaries.begin("default", challenger, 0.5, who="canary")
    eventually(
        lambda: live.http("GET", "/v1/policies").json()["data"][0]["challenger"] == challenger
    )
    arms = {ask(live, user=f"user-{n}")["arm"] for n in range(20)}
    assert arms == {"champion", "challenger"}


def test_where_the_base_serves_there_is_nothing_to_explore(
    live: Running, registry: StubRegistry
) -> None:
    live.http("POST", "/v1/policies/default/promote", json={"version": 1})
    assert {ask(live)["arm"] for _ in range(10)} == {"champion"}
