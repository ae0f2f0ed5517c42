"""Following the published reward models: taken up as they come, refused where they are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
import torch
from burnish.serving.live import LiveRewards
from burnish.serving.registry import signing_keys
from burnish.serving.reward.features import MANNER
from burnish.serving.reward.publication import MODEL, NOTICE, key_of
from burnish.serving.reward.reward_model import RewardModel

from tests.conftest import RedisServer
from tests.serving.conftest import closed_port
from tests.serving.reward_models import fitted, notice_of, publish_model

KEY = key_of("default")


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return fitted(
        torch.randn(4, 24 + MANNER, generator=torch.Generator().manual_seed(1)), [1.0, 0.0] * 2
    )


@pytest.fixture
def live(redis_url: str, redis_client: redis.Redis, tmp_path: Path) -> LiveRewards:
    return follower(redis_url, tmp_path)


def follower(redis_url: str, data_dir: Path) -> LiveRewards:
    return LiveRewards(redis_url, signing_keys(data_dir), "0" * 64, policies=["default", "shop"])


async def test_what_is_published_is_taken_up_and_the_next_one_after_it(
    live: LiveRewards, redis_client: redis.Redis, model: RewardModel, tmp_path: Path
) -> None:
    await live.poll()
    assert live.of("default") is None
    for known in ("1", "2"):
        notice = publish_model(redis_client, model, tmp_path, known=known)
        await live.poll()
        served = live.of("default")
        assert served is not None
        assert served.notice == notice
    assert live.of("shop") is None
    assert not live.problems


@pytest.mark.parametrize("damage", ["unsigned", "corrupt", "another's", "half"])
async def test_what_is_not_ours_is_refused_and_the_last_good_one_kept(
    live: LiveRewards, redis_client: redis.Redis, model: RewardModel, tmp_path: Path, damage: str
) -> None:
    good = publish_model(redis_client, model, tmp_path)
    await live.poll()
    bad = notice_of(model, tmp_path / "elsewhere" if damage == "another's" else tmp_path, known="2")
    text = bad.text.replace(bad.signature.encode(), b"0" * 64) if damage == "unsigned" else bad.text
    redis_client.hset(KEY, NOTICE, text)
    if damage == "corrupt":
        redis_client.hset(KEY, MODEL, b"no bytes of ours")
    if damage == "half":
        redis_client.hdel(KEY, MODEL)
    await live.poll()
    served = live.of("default")
    assert served is not None
    assert served.notice == good
    assert len(live.problems) == 1
    assert live.problems[0].startswith("reward model of default: ")
    newer = publish_model(redis_client, model, tmp_path, known="3")
    await live.poll()
    assert live.of("default").notice == newer  # type: ignore[union-attr]
    assert not live.problems


async def test_what_was_withdrawn_is_dropped(
    live: LiveRewards, redis_client: redis.Redis, model: RewardModel, tmp_path: Path
) -> None:
    publish_model(redis_client, model, tmp_path)
    await live.poll()
    assert live.of("default")
    redis_client.delete(KEY)
    await live.poll()
    assert live.of("default") is None


async def test_while_redis_is_away_the_last_one_goes_on(
    redis_of_its_own: RedisServer, model: RewardModel, tmp_path: Path
) -> None:
    live = follower(redis_of_its_own.url, tmp_path)
    client = redis.Redis.from_url(redis_of_its_own.url)
    publish_model(client, model, tmp_path)
    await live.poll()
    redis_of_its_own.kill()
    await live.poll()
    assert live.of("default")
    assert not live.problems, "readiness tells of Redis by itself"
    redis_of_its_own.start()
    newer = publish_model(redis.Redis.from_url(redis_of_its_own.url), model, tmp_path, known="2")
    await live.poll()
    assert live.of("default").notice == newer  # type: ignore[union-attr]


async def test_without_redis_there_is_none_and_nothing_fails(tmp_path: Path) -> None:
    live = follower(f"redis://127.0.0.1:{closed_port()}/0", tmp_path)
    await live.poll()
    assert live.of("default") is None


async def test_what_was_refused_is_not_fetched_again(
    live: LiveRewards,
    redis_client: redis.Redis,
    model: RewardModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis_client.hset(KEY, mapping={NOTICE: b"{}", MODEL: b""})
    await live.poll()
    monkeypatch.setattr(live._redis, "hmget", lambda *_: pytest.fail("fetched again"))
    await live.poll()
    assert live.problems
