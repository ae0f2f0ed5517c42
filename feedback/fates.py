"""The fate of a judgement, as the learner tells it: joined, weighed, learnt from or left out.

One hash in Redis for each judgement, under its event id, so that a revised judgement begins anew. It holds figures and
no words of anybody's, is worth no more than what it tells, and is forgotten after a month or with Redis. Left out:
what serving knows by itself, whether it stands and which version serves (serving/api/fates.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from burnish.feedback.contract import FATE_PREFIX

KEPT_SECONDS = 30 * 24 * 3600
BATCH = 500  # hashes to one round trip


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What is known so far; None where nothing is. Times in seconds since the epoch.

    `weight` in [0, 1] beside a vote that counts in full, `less`: why it is below 1. `version` is the one that first
    learnt from it, by the update `update`; `passed` says what its gate found. `skipped`: why the last update left
    it out.
    """

    policy: str | None = None
    joined_at: float | None = None
    weighed_at: float | None = None
    weight: float | None = None
    less: str | None = None
    skipped: str | None = None
    used_at: float | None = None
    update: str | None = None
    version: int | None = None
    passed: bool | None = None


_READ: Mapping[str, Any] = {
    "joined_at": float,
    "weighed_at": float,
    "weight": float,
    "used_at": float,
    "version": int,
    "passed": lambda text: text == "1",
}


def tell(client: Any, fates: Mapping[str, Fate]) -> None:
    """Add what is new to the fates of judgements, by event id; an empty text takes back what was told. Raises
    redis.RedisError."""
    entries = list(fates.items())
    for start in range(0, len(entries), BATCH):
        with client.pipeline(transaction=False) as pipe:
            for event, fate in entries[start : start + BATCH]:
                told = {name: _text(v) for name, v in asdict(fate).items() if v is not None}
                pipe.hset(FATE_PREFIX + event, mapping=told)
                pipe.expire(FATE_PREFIX + event, KEPT_SECONDS)
            pipe.execute()


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


async def read(client: Any, event: str) -> Fate:
    """The fate of a judgement by event id, by an asynchronous client; all None where nothing was told. Raises
    redis.RedisError."""
    found = {
        _decoded(k): _decoded(v) for k, v in (await client.hgetall(FATE_PREFIX + event)).items()
    }
    return Fate(
        **{
            name: _READ.get(name, str)(value)
            for name, value in found.items()
            if value != "" and name in Fate.__annotations__
        }
    )


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
