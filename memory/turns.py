"""Turns: what was said in one request and what was answered, kept by id so that others go on from it.

A turn names the one before it, and holds all the turns before that, so that a conversation is read in
two steps however long it is; the same turn may have several that follow. Turns expire. Left out: what
a turn looks like, which is the API's to say.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from burnish.memory.errors import TurnNotFound
from burnish.memory.sessions.keys import TenantKeys
from redis.asyncio import Redis

DAYS = 30.0
DAY_S = 86_400


@dataclass(frozen=True)
class Turn:
    id: str
    input: list[dict[str, Any]]  # items that were new
    output: list[dict[str, Any]]
    response: dict[str, Any]  # all that the client was told
    session: str  # of memory, which holds the same conversation
    steps: int  # in that session, this turn's included
    before: tuple[str, ...] = ()  # the turns it went on from, oldest first

    @property
    def chain(self) -> tuple[str, ...]:
        """`before` of a turn that goes on from this one."""
        return (*self.before, self.id)


class Turns:
    def __init__(self, redis: Redis, days: float = DAYS) -> None:
        self._redis: Any = redis
        self._seconds = int(days * DAY_S)

    async def keep(self, tenant: str, turn: Turn, user: str | None) -> None:
        keys = TenantKeys(tenant)
        owners = [f"session:{turn.session}", *([] if user is None else [f"user:{user}"])]
        async with self._redis.pipeline(transaction=True) as pipe:
            for (
                owner
            ) in owners:  # before the turn, so that none exists that `forget` would not find
                pipe.sadd(keys.turns_of(owner), turn.id)
                pipe.expire(keys.turns_of(owner), self._seconds)
            pipe.set(keys.turn(turn.id), json.dumps(asdict(turn)), ex=self._seconds)
            await pipe.execute()

    async def get(self, tenant: str, turn: str) -> Turn:
        """Raises TurnNotFound."""
        (found,) = await self._read(tenant, [turn])
        return found

    async def conversation(self, tenant: str, turn: str) -> list[Turn]:
        """The turn and all before it, oldest first. Raises TurnNotFound, of any of them."""
        last = await self.get(tenant, turn)
        return [*await self._read(tenant, last.before), last]

    async def delete(self, tenant: str, turn: str) -> None:
        """Raises TurnNotFound. What went on from it has lost its beginning, and ends there too."""
        if not await self._redis.delete(TenantKeys(tenant).turn(turn)):
            raise _not_found(turn)

    async def forget(
        self, tenant: str, *, session: str | None = None, user: str | None = None
    ) -> int:
        """Erase all turns in a session or of an end user; how many there were."""
        keys = TenantKeys(tenant)
        owner = keys.turns_of(f"user:{user}" if session is None else f"session:{session}")
        turns = await self._redis.smembers(owner)
        async with self._redis.pipeline(transaction=True) as pipe:
            for turn in turns:
                pipe.delete(keys.turn(turn))
            pipe.delete(owner)
            erased = await pipe.execute()
        return sum(erased[:-1])

    async def of_user(self, tenant: str, user: str) -> list[Turn]:
        keys = TenantKeys(tenant)
        known = sorted(await self._redis.smembers(keys.turns_of(f"user:{user}")))
        texts = await self._redis.mget([keys.turn(turn) for turn in known]) if known else []
        return [_turn(text) for text in texts if text is not None]

    async def _read(self, tenant: str, turns: Any) -> list[Turn]:
        if not turns:
            return []
        texts = await self._redis.mget([TenantKeys(tenant).turn(turn) for turn in turns])
        missing = next(
            (turn for turn, text in zip(turns, texts, strict=True) if text is None), None
        )
        if missing is not None:
            raise _not_found(missing)
        return [_turn(text) for text in texts]


def _turn(text: str) -> Turn:
    fields: Mapping[str, Any] = json.loads(text)
    return replace(Turn(**fields), before=tuple(fields["before"]))


def _not_found(turn: str) -> TurnNotFound:
    return TurnNotFound(f"there is no '{turn}', or not any more")
