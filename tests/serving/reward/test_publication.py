"""A published reward model: what comes out is what went in, and nothing that our learner did not sign."""

from dataclasses import replace
from pathlib import Path

import pytest
import redis
import torch
from burnish.feedback.keyring import Keyring
from burnish.serving.registry import signing_keys
from burnish.serving.reward.features import MANNER
from burnish.serving.reward.publication import (
    MODEL,
    NOTICE,
    Notice,
    RewardError,
    key_of,
    pack,
    replace_published,
    verified,
)
from burnish.serving.reward.reward_model import RewardModel

from tests.serving.reward_models import fitted, notice_of, publish_model

BASE = "0" * 64


@pytest.fixture(scope="module")
def model() -> RewardModel:
    features = torch.randn(6, 24 + MANNER, generator=torch.Generator().manual_seed(1))
    return fitted(features, [1.0, 0.0] * 3)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return signing_keys(tmp_path).read()


def test_what_is_published_is_what_is_asked(model, keyring, tmp_path: Path):
    notice = notice_of(model, tmp_path)
    told, found = verified("default", BASE, {NOTICE: notice.text, MODEL: pack(model)}, keyring)
    features = torch.randn(4, 24 + MANNER)
    assert told == notice
    assert torch.equal(found.draw(features, 7), model.draw(features, 7))
    assert torch.equal(found.support(features), model.support(features))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"policy": "other"}, "not signed"),
        ({"votes": 9}, "not signed"),
        ({"signature": ""}, "not signed"),
        ({"signature": "no hexadecimal"}, "not signed"),
        ({"signature": 7}, "not signed"),
    ],
)
def test_a_notice_that_was_changed_is_refused(model, keyring, tmp_path: Path, said, why):
    changed = replace(notice_of(model, tmp_path), **said)
    with pytest.raises(RewardError, match=why):
        verified("default", BASE, {NOTICE: changed.text, MODEL: pack(model)}, keyring)


def test_that_of_another_policy_is_refused_though_it_is_signed(model, keyring, tmp_path: Path):
    notice = notice_of(model, tmp_path, policy="shop")
    with pytest.raises(RewardError, match="not signed"):
        verified("default", BASE, {NOTICE: notice.text, MODEL: pack(model)}, keyring)


def test_bytes_other_than_those_signed_are_refused(model, keyring, tmp_path: Path):
    content = bytearray(pack(model))
    content[-1] ^= 1
    published = {NOTICE: notice_of(model, tmp_path).text, MODEL: bytes(content)}
    with pytest.raises(RewardError, match="bytes"):
        verified("default", BASE, published, keyring)


def test_that_of_another_base_is_refused(model, keyring, tmp_path: Path):
    published = {NOTICE: notice_of(model, tmp_path).text, MODEL: pack(model)}
    with pytest.raises(RewardError, match="another base"):
        verified("default", "1" * 64, published, keyring)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"policy": 1}', b"\xff"])
def test_a_notice_that_is_none_is_refused(model, keyring, text: bytes):
    with pytest.raises(RewardError, match="cannot be read"):
        verified("default", BASE, {NOTICE: text, MODEL: pack(model)}, keyring)


@pytest.mark.parametrize("missing", [NOTICE, MODEL])
def test_half_of_it_is_refused(model, keyring, tmp_path: Path, missing: str):
    published = {NOTICE: notice_of(model, tmp_path).text, MODEL: pack(model)}
    with pytest.raises(RewardError, match="missing"):
        verified("default", BASE, {**published, missing: None}, keyring)


def test_signed_bytes_that_are_no_model_are_refused(keyring, tmp_path: Path, model):
    from burnish.serving.reward.publication import sha256_of
    from safetensors.torch import save

    for content in (b"nothing", save({"weights": torch.zeros(2)})):
        notice = notice_of(model, tmp_path, sha256=sha256_of(content))
        with pytest.raises(RewardError, match="cannot be read"):
            verified("default", BASE, {NOTICE: notice.text, MODEL: content}, keyring)


def test_a_publisher_that_was_overtaken_replaces_nothing(
    redis_client: redis.Redis, model, tmp_path: Path
):
    first = publish_model(redis_client, model, tmp_path, known="1")
    newer = publish_model(redis_client, model, tmp_path, known="2")
    late = notice_of(model, tmp_path, known="late")
    assert not replace_published(redis_client, late, pack(model), before=first.text)
    assert _published(redis_client) == newer
    assert replace_published(redis_client, late, pack(model), before=newer.text)
    assert _published(redis_client) == late


def test_the_first_one_is_published_where_there_is_none(
    redis_client: redis.Redis, model, tmp_path: Path
):
    notice = notice_of(model, tmp_path)
    assert replace_published(redis_client, notice, pack(model), before=None)
    assert not replace_published(redis_client, notice, pack(model), before=None)


def _published(client: redis.Redis) -> Notice:
    return Notice.read(client.hget(key_of("default"), NOTICE))  # type: ignore[arg-type]
