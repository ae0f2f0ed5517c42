"""The reward models that the learner publishes, loaded as they come.

A poll reads each policy's notice from Redis and fetches what it has not seen. What is not signed by our
learner, is damaged, or belongs to another base is refused; then, and while Redis is away, the model loaded
last goes on, and `problem` says why. A model that was withdrawn is dropped: those whose judgements it
knew may have been erased. Left out: choosing by a model (api/best_of.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from burnish.feedback.redis_clients import open_client
from burnish.serving.registry.signatures import Keys
from burnish.serving.reward.publication import (
    MODEL,
    NOTICE,
    Notice,
    RewardError,
    key_of,
    verified,
)
from burnish.serving.reward.reward_model import RewardModel
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedReward:
    """A reward model that is ready to be asked, and what was said of it."""

    notice: Notice
    model: RewardModel

    @property
    def age_s(self) -> float:
        return max(0.0, time.time() - self.notice.time)


class LiveRewards:
    """Follows the reward models of `policies`."""

    def __init__(
        self,
        redis_url: str,
        keys: Keys,
        base_sha256: str,
        *,
        policies: Sequence[str],
        poll_s: float = 0.5,
    ) -> None:
        self._redis_url, self._keys, self._base_sha256 = redis_url, keys, base_sha256
        self._poll_s = poll_s
        self._policies = tuple(policies)
        self._served: dict[str, ServedReward] = {}
        self._seen: dict[str, bytes | None] = {}  # the notice looked at last
        self._problems: dict[str, str] = {}
        self._failure: str | None = None  # of following itself
        self._follower: asyncio.Task[None] | None = None

    def of(self, policy: str) -> ServedReward | None:
        return self._served.get(policy)

    @property
    def problems(self) -> list[str]:
        """Why what is published of a policy is not what is asked."""
        told = [f"reward model of {policy}: {why}" for policy, why in self._problems.items()]
        return [*told, *([self._failure] if self._failure else [])]

    def start(self) -> None:
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
            if "_redis" in vars(self):
                await asyncio.to_thread(self._redis.close)

    @property
    def vital(self) -> asyncio.Task[None] | None:
        """The task without which no reward model is followed, once started."""
        return self._follower

    async def poll(self) -> None:
        """Look once at what is published of every policy."""
        for policy in self._policies:
            try:
                notice, served = await asyncio.to_thread(self._look, policy)
            except RedisError as error:  # which readiness tells of
                log.debug("reward model of %s: %s", policy, error)
                continue
            if notice == self._seen.get(policy):
                continue
            self._seen[policy] = notice
            if isinstance(served, RewardError):
                self._problems[policy] = str(served)
                log.warning("reward model of %s: %s (what is loaded goes on)", policy, served)
                continue
            self._problems.pop(policy, None)
            if served is None:
                self._served.pop(policy, None)
                log.info("%s: its reward model was withdrawn", policy)
            else:
                self._served[policy] = served

    @cached_property
    def _redis(self) -> Any:
        return open_client(self._redis_url, socket_timeout=5, socket_connect_timeout=2)

    def _look(self, policy: str) -> tuple[bytes | None, ServedReward | RewardError | None]:
        """The notice as it is now, and where that is new what it is of."""
        key = key_of(policy)
        notice: Any = self._redis.hget(key, NOTICE)
        if notice is None or notice == self._seen.get(policy):
            return notice, None
        fields = (NOTICE, MODEL)
        published: Any = dict(zip(fields, self._redis.hmget(key, fields), strict=True))
        try:
            said, model = verified(policy, self._base_sha256, published, self._keys.read())
        except RewardError as error:
            return published[NOTICE], error
        return published[NOTICE], ServedReward(said, model)

    async def _follow(self) -> None:
        while True:
            try:
                await self.poll()
                self._failure = None
            except Exception as error:  # the task's top loop: what is loaded goes on whatever fails
                if self._failure is None:
                    log.exception("reward models cannot be followed")
                self._failure = f"reward models: {type(error).__name__}: {error}"
            await asyncio.sleep(self._poll_s)
