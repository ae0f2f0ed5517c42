"""A policy's alarms, as the learner leaves them in Redis (learner/alarms)."""

from __future__ import annotations

import json
import time
from typing import Any

from burnish.feedback.contract import ALARMS_PREFIX
from burnish.serving.api.service import Service
from redis.exceptions import RedisError


async def alarms_of(service: Service, policy: str) -> dict[str, Any] | None:
    """None where nothing was looked at yet. Raises RedisError."""
    redis: Any = service.redis
    found = await redis.get(ALARMS_PREFIX + policy)
    if found is None:
        return None
    told: dict[str, Any] = json.loads(found)
    now = time.time()
    for alarm in told["open"]:  # a while may have ended since
        alarm["silenced"] = (alarm.get("silenced_until") or 0.0) > now
    return told


async def open_alarms(service: Service, policy: str) -> dict[str, str]:
    """The sentences of those that are open and not silenced, by name; none while Redis is away, since what asks
    must not wait for it."""
    try:
        told = await alarms_of(service, policy)
    except RedisError:
        return {}
    return {a["name"]: a["says"] for a in (told or {}).get("open", ()) if not a["silenced"]}
