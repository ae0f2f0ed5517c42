"""Telling people what an update made of their judgements (feedback/fates.py).

That Redis is away costs them the story and nothing else: the update goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import redis
from burnish.feedback import fates
from burnish.feedback.fates import Fate
from burnish.serving.registry import PolicyVersion

log = logging.getLogger(__name__)


def tell_weighed(
    client: Any, policy: str, weighed: Mapping[str, Fate], events: Iterable[str]
) -> None:
    """How much each judgement counts; those of the new `events` that were not even looked at are too old."""
    old = {event: Fate(policy=policy, skipped="old") for event in events if event not in weighed}
    _tell(client, {**weighed, **old})


def tell_learnt(
    client: Any, version: PolicyVersion, update: str, passed: bool, events: Iterable[str]
) -> None:
    """That `version` is the first to have learnt from these judgements, and what its gate found."""
    fate = Fate(
        policy=version.policy,
        update=update,
        version=version.version,
        passed=passed,
        used_at=time.time(),
    )
    _tell(client, dict.fromkeys(events, fate))


def _tell(client: Any, told: Mapping[str, Fate]) -> None:
    try:
        fates.tell(client, told)
    except redis.RedisError as error:
        log.warning("what became of %d judgements is not told: %s", len(told), error)
