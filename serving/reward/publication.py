"""How a reward model comes from the learner to serving: its bytes and a signed notice, under one key of Redis.

So it comes the same way on one machine and in a fleet, and both change together. A notice says what the
bytes are, which base they are for and how much they know, and is signed with the secret that signs policy
versions: who can write to Redis cannot thereby choose answers. Left out: when a model is published
(learner/update/publishing.py) and who follows it (serving/live/rewards.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from burnish.feedback.contract import REWARD_PREFIX
from burnish.feedback.keyring import Keyring
from burnish.serving.reward.reward_model import RewardModel
from safetensors import SafetensorError
from safetensors.torch import load, save

NOTICE, MODEL = "notice", "model"  # the fields of the hash
_REPLACE = """
if (redis.call('hget', KEYS[1], 'notice') or '') ~= ARGV[1] then return 0 end
redis.call('hset', KEYS[1], 'notice', ARGV[2], 'model', ARGV[3])
return 1
"""


class RewardError(ValueError):
    """What is published is not a reward model of ours for this policy and base; the message says why."""


@dataclass(frozen=True)
class Notice:
    """What is said of a published reward model."""

    policy: str
    base_sha256: str
    sha256: str  # of the model's bytes
    votes: int  # judged answers that it was fitted to
    known: str  # names the judgements it knows, so that a change of them is noticed; may be empty
    time: float  # seconds since 1970
    seconds: float  # that making it took
    signature: str = ""

    @classmethod
    def read(cls, text: bytes) -> Self:
        """Raises RewardError."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise RewardError(f"the notice cannot be read: {error}") from error

    @property
    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def signed(self, keyring: Keyring) -> Self:
        return replace(self, signature=keyring.sign(self._message).hex())

    def is_signed(self, keyring: Keyring) -> bool:
        try:
            signature = bytes.fromhex(self.signature)
        except (ValueError, TypeError):
            return False
        return len(signature) == 32 and keyring.verifies(self._message, signature)

    @property
    def _message(self) -> bytes:
        said = {name: value for name, value in asdict(self).items() if name != "signature"}
        return b"burnish reward model\0" + json.dumps(said, sort_keys=True).encode()


def key_of(policy: str) -> str:
    return REWARD_PREFIX + policy


def pack(model: RewardModel) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def noticed(policy: str, base_sha256: str, text: bytes, keyring: Keyring) -> Notice:
    """The notice. Raises RewardError unless our learner signed it for this policy and base."""
    notice = Notice.read(text)
    if not notice.is_signed(keyring) or notice.policy != policy:
        raise RewardError(f"it is not signed by this service's learner for {policy!r}")
    if notice.base_sha256 != base_sha256:
        raise RewardError("it belongs to another base model than the one loaded")
    return notice


def verified(
    policy: str, base_sha256: str, published: Mapping[str, bytes | None], keyring: Keyring
) -> tuple[Notice, RewardModel]:
    """The notice and the model of a hash's two fields. Raises RewardError, as `noticed` does, and unless
    the model is what was signed."""
    text, content = published.get(NOTICE), published.get(MODEL)
    if text is None or content is None:
        raise RewardError("a part of it is missing")
    notice = noticed(policy, base_sha256, text, keyring)
    if notice.sha256 != sha256_of(content):
        raise RewardError("its bytes are not those that were signed")
    try:
        model = _unpacked(content)
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RewardError(f"it cannot be read: {error}") from error
    return notice, model


def _unpacked(content: bytes) -> RewardModel:
    """The model of `pack`'s bytes. It is asked once: what it computes only once is not left to the first
    request, and one of another release fails here."""
    model = RewardModel.load(load(content))
    if model is None:
        raise ValueError("it has no hyperparameters")
    model.scores_and_support(torch.zeros(1, model.size), 0)
    return model


def replace_published(client: Any, notice: Notice, content: bytes, *, before: bytes | None) -> bool:
    """Publish, unless another was published since the notice `before` was read; whether it was done.
    `client` is a redis.Redis. Raises RedisError."""
    key = key_of(notice.policy)
    return bool(client.eval(_REPLACE, 1, key, before or b"", notice.text, content))


def publish(client: Any, notice: Notice, content: bytes) -> None:
    """Publish, whatever was published before. Raises RedisError."""
    client.hset(key_of(notice.policy), mapping={NOTICE: notice.text, MODEL: content})


def withdraw(client: Any, policy: str) -> None:
    """Publish nothing of a policy any more. Raises RedisError."""
    client.delete(key_of(policy))
