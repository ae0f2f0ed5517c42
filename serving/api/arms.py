"""Which arm of a canary answered: told on every answer, counted, and remembered where a request failed.

The learner reads the answers themselves from the event stream, and who failed from Redis, since what was not answered
is no interaction. Only the salted hashes of users lie there, and not for long.
"""

from __future__ import annotations

import logging

from burnish.feedback.contract import failed_key
from burnish.serving.api.errors import ApiError
from burnish.serving.api.metrics import Metrics
from burnish.serving.api.service import Service
from burnish.serving.live import VersionLease
from burnish.serving.live.canary import Assignment
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

VERSION_HEADER, ARM_HEADER = "X-Burnish-Version", "X-Burnish-Arm"
KEPT_S = 7 * 24 * 3600
SERVERS_FAULT = 500


def arm_headers(lease: VersionLease) -> dict[str, str]:
    """Of an answer; a version that was asked for by number is of no arm."""
    return {VERSION_HEADER: lease.ref} | ({ARM_HEADER: lease.arm} if lease.arm else {})


def count_arm(metrics: Metrics, lease: VersionLease, outcome: str) -> None:
    if lease.assignment is not None:
        metrics.arms.labels(lease.policy, lease.assignment.arm, outcome).inc()


def count_failure(service: Service, lease: VersionLease, error: ApiError) -> None:
    """Of a request in a canary that the server could not answer. A full queue, or a request that cannot be
    answered by any version, is nobody's fault."""
    if lease.assignment is None or error.status < SERVERS_FAULT or error.code == "draining":
        return
    count_arm(service.metrics, lease, "failed")
    service.recorder.background(_remember(service, lease.policy, lease.assignment))


async def _remember(service: Service, policy: str, assigned: Assignment) -> None:
    key = failed_key(policy, assigned.challenger, assigned.arm)
    try:
        async with service.redis.pipeline() as pipe:
            pipe.sadd(key, assigned.subject)
            pipe.expire(key, KEPT_S)
            await pipe.execute()
    except RedisError as error:  # the metric has it, and the learner is away with Redis
        log.warning("a failed request of %s is not told the learner: %s", policy, error)
