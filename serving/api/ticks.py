"""The learner's last ticks, as it leaves them in Redis."""

from __future__ import annotations

import json
from typing import Any

from burnish.feedback.contract import TICKS_KEY

LOOKED_AT = 50


async def latest_ticks(redis: Any, limit: int) -> list[dict[str, Any]]:
    """Newest first. Raises RedisError."""
    return [json.loads(tick) for tick in await redis.lrange(TICKS_KEY, 0, limit - 1)]


async def why_nothing_trained(redis: Any, policy: str | None) -> str | None:
    """What the last update tick of a policy waits for; None where it trained, or there was none. Raises
    RedisError."""
    for tick in await latest_ticks(redis, LOOKED_AT):
        if tick["kind"] == "update" and policy in (None, tick["policy"]):
            return tick["why_not"]
    return None
