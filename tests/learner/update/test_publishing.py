"""Publishing the reward model between updates: when there is something new, and only then."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
import torch
from burnish.feedback.events import Event, FeedbackEvent, RetractionEvent
from burnish.learner.database import Database
from burnish.learner.intake.erasure import erase_user
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward import experience
from burnish.learner.reward.features import features_of
from burnish.learner.update.publishing import LEAST, RewardPublisher, publish_trained
from burnish.learner.update.tick import Learner
from burnish.serving.live import LiveRewards, ServedReward
from burnish.serving.registry import signing_keys
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.publication import MODEL, NOTICE, key_of

from tests.learner.conftest import retraction, thumbs
from tests.learner.update.conftest import add_judged

Look = Callable[[], Awaitable[Any]]


@pytest.fixture
def learner(learner_with) -> Learner:
    return learner_with()


@pytest.fixture
def publisher(learner: Learner, redis_client: redis.Redis) -> RewardPublisher:
    made = RewardPublisher(learner.settings, learner.database, redis_client)
    made.model = learner.model
    return made


@pytest.fixture
def served(learner: Learner, redis_url: str) -> Look:
    """What serving asks after a look at what is published."""
    keys = signing_keys(learner.settings.data_dir)
    live = LiveRewards(redis_url, keys, learner.model.sha256, policies=["default"])

    async def look() -> ServedReward | None:
        await live.poll()
        assert not live.problems
        return live.of("default")

    return look


def later(event: FeedbackEvent | RetractionEvent, minutes: int) -> Event:
    """The same by somebody else, accepted so many minutes later."""
    time = event.time + timedelta(minutes=minutes)
    if isinstance(event, RetractionEvent):
        return event.model_copy(update={"time": time})
    return event.model_copy(update={"user": "bob"}).accepted(time)


async def test_serving_is_told_what_people_like(
    learner: Learner, publisher: RewardPublisher, served
):
    add_judged(learner.database, range(24))  # short answers are liked
    assert publisher.publish("default").startswith("published what 24 judged answers tell")
    reward = await served()
    with learner.database.read() as session:
        judged = experience.load(session, "default", champion=1, limit=99, max_staleness=9)
    liked = reward.model.mean(features_of(learner.database, learner.model, judged))
    short = torch.tensor([len(answer.token_ids) == 2 for answer in judged])
    assert liked[short].mean() > liked[~short].mean()
    assert reward.notice.votes == 24


def test_a_few_judgements_are_not_enough(learner: Learner, publisher: RewardPublisher):
    assert publisher.publish("default") == f"0 judged answers, {LEAST} are needed"
    add_judged(learner.database, range(LEAST - 1))
    assert publisher.publish("default") == f"{LEAST - 1} judged answers, {LEAST} are needed"


async def test_it_is_published_anew_whenever_judgements_come_change_or_go(
    learner: Learner, publisher: RewardPublisher, served: Look, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("burnish.learner.update.publishing.RESTS", 0)
    add_judged(learner.database, range(20))
    known = []
    for event in (None, thumbs(90, "down", on=3), thumbs(90, "up", on=3), retraction(90)):
        if event is not None:
            with learner.database.write() as session:
                upsert(session, [later(event, len(known))])
        assert publisher.publish("default").startswith("published")
        assert publisher.publish("default") == "nothing new"
        known.append((await served()).notice.known)
    assert all(now != before for before, now in pairwise(known))
    assert known[-1] == known[0], "it is as if nothing had been said"


def test_it_rests_in_proportion_to_what_it_took(
    learner: Learner, publisher: RewardPublisher, monkeypatch: pytest.MonkeyPatch
):
    add_judged(learner.database, range(20))
    assert publisher.publish("default").startswith("published")
    monkeypatch.setattr("burnish.learner.update.publishing.RESTS", 1e6)
    add_judged(learner.database, range(20, 24))
    assert publisher.publish("default").startswith("the last one took")


async def test_what_was_erased_is_withdrawn(
    learner: Learner, publisher: RewardPublisher, served: Look
):
    add_judged(learner.database, range(20))
    publisher.publish("default")
    assert await served()
    with learner.database.write() as session:
        erase_user(session, "local", "ada", time.time())
    assert publisher.publish("default") == f"0 judged answers, {LEAST} are needed"
    assert await served() is None


async def test_an_update_publishes_what_it_trained_by_and_its_hyperparameters_stay(
    learner: Learner, publisher: RewardPublisher, served: Look, redis_client: redis.Redis
):
    add_judged(learner.database, range(20))
    publisher.publish("default")
    model = replace((await served()).model, hyperparameters=Hyperparameters(answer=0.7))
    state = {**model.state_dict(), "rehearsal": {}}
    keyring = signing_keys(learner.settings.data_dir).read()
    publish_trained(redis_client, keyring, "default", learner.model.sha256, state)
    assert (await served()).model.hyperparameters.answer == pytest.approx(0.7)
    assert publisher.publish("default").startswith("published"), "judgements may have come since"
    assert (await served()).model.hyperparameters.answer == pytest.approx(0.7)


def test_an_update_without_a_reward_model_publishes_nothing(
    learner: Learner, redis_client: redis.Redis
):
    keyring = signing_keys(learner.settings.data_dir).read()
    publish_trained(redis_client, keyring, "default", learner.model.sha256, {"rehearsal": {}})
    assert not redis_client.exists(key_of("default"))


def test_a_publisher_that_an_update_has_overtaken_gives_way(
    learner: Learner, publisher: RewardPublisher, redis_client: redis.Redis, monkeypatch
):
    add_judged(learner.database, range(20))
    fit = publisher._fit

    def overtaken(policy: str):
        redis_client.hset(key_of(policy), mapping={NOTICE: b"newer", MODEL: b""})
        return fit(policy)

    monkeypatch.setattr(publisher, "_fit", overtaken)
    assert publisher.publish("default") == "an update has published meanwhile"
    assert redis_client.hget(key_of("default"), NOTICE) == b"newer"


async def test_what_serving_would_refuse_is_published_anew(
    learner: Learner, publisher: RewardPublisher, served: Look, redis_client: redis.Redis
):
    add_judged(learner.database, range(20))
    redis_client.hset(key_of("default"), mapping={NOTICE: b"{}", MODEL: b""})
    assert publisher.publish("default").startswith("published")
    assert await served()


def test_nothing_is_loaded_while_nothing_is_new(
    learner: Learner, publisher: RewardPublisher, redis_client: redis.Redis
):
    add_judged(learner.database, range(20))
    publisher.publish("default")
    other = RewardPublisher(learner.settings, learner.database, redis_client)
    assert other.publish("default") == "nothing new"
    assert "model" not in vars(other)


def test_one_process_at_a_time_publishes(
    learner: Learner, publisher: RewardPublisher, lease_on: Callable
):
    add_judged(learner.database, range(20))
    with lease_on(learner.database, "reward:default"):
        assert publisher.publish("default") == "another process publishes"


def test_features_that_another_process_has_stored_meanwhile_are_no_error(
    database: Database, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
):
    from burnish.kernels.loading import load_model
    from burnish.learner.reward import features

    add_judged(database, range(4))
    model = load_model(tiny_model)
    with database.read() as session:
        judged = experience.load(session, "default", champion=1, limit=9, max_staleness=9)
    first = features_of(database, model, judged)
    monkeypatch.setattr(features, "_stored", lambda *_: {})  # as it was before the other one
    assert torch.equal(features_of(database, model, judged), first)
