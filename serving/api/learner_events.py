"""What happens to the learner and to the versions that serve, as server-sent events while somebody looks.

Each reader's own look, once a second: one list entry from Redis, and what this process knows anyway. Left out: what
happened while nobody was connected; GET /v1/learner tells that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from burnish.serving.api.service import Service
from burnish.serving.api.sse import COMMENT, encode
from burnish.serving.api.ticks import latest_ticks
from redis.exceptions import RedisError

LOOK_S = 1.0
SILENCE_S = 15.0  # after which a comment keeps the connection open


async def learner_events(service: Service, look_s: float = LOOK_S) -> AsyncIterator[str]:
    """`tick` and `policies` events, until the process drains."""
    seen, served, silent = await _newest(service), None, SILENCE_S
    while not service.draining:
        now = {s.policy: [s.champion, s.challenger, s.previous] for s in service.policies.status()}
        if now != served:
            served, silent = now, 0.0
            policies = {name: _served(*versions) for name, versions in now.items()}
            yield encode({"type": "policies", "policies": policies})
        tick = await _newest(service)
        if tick is not None and tick != seen:
            seen, silent = tick, 0.0
            yield encode({"type": "tick", **tick})
        if silent >= SILENCE_S:
            silent = 0.0
            yield COMMENT
        await asyncio.sleep(look_s)
        silent += look_s


async def _newest(service: Service) -> dict[str, Any] | None:
    try:
        return next(iter(await latest_ticks(service.redis, 1)), None)
    except RedisError:
        return None


def _served(champion: int | None, challenger: int | None, previous: int | None) -> dict[str, Any]:
    return {"champion": champion, "challenger": challenger, "previous": previous}
