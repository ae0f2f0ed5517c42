"""Upkeep in the background: compacting sessions that grow, erasing what was deleted.

A session is looked at when its view has grown past 0.75 of the budget it is asked for, and is
compacted to 0.4 of it. Never a loop: one pass per occasion, one at a time per session (a lease in
Redis), each within a wall-clock cap; a pass that would gain under a tenth changes nothing, and the
next one waits until the session has grown, twice as long after each such pass.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from burnish.memory.compaction.compaction import Compaction
from burnish.memory.errors import BudgetTooSmall, StoreError
from burnish.memory.sessions import snapshot as moments
from burnish.memory.sessions.changes import Changes
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.scripts import session_keys
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

TRIGGER = 0.75  # of the budget
TARGET = 0.4
LEAST_GAIN = 0.1  # of the view's tokens
REST = 0.1  # of the budget: growth to wait for after a pass that gained too little
MOST_RESTS = 6  # doublings of that
PASS_S = 60.0
REST_KEPT_S = 7 * 24 * 3600
SWEEP_S = 30.0


@dataclass(frozen=True)
class Pass:
    """What an occasion came to, and why."""

    outcome: str  # "compacted", "small", "resting", "taken", "no gain", "late"
    plan: str = ""


class BackgroundCompaction:
    """`policy` is what decides in the background. Raises UnknownPolicy."""

    def __init__(
        self, redis: Any, compaction: Compaction, changes: Changes, policy: str = "bm25"
    ) -> None:
        self._redis = redis
        compaction.policies.get(policy)  # a name nobody knows is refused now, not in the background
        self._compaction = compaction
        self._changes = changes
        self._policy = policy
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.done: Callable[[Pass], None] = lambda _: None  # called after each pass

    def consider(self, tenant: str, session: str, budget: int) -> None:
        """Have a look at the session, soon and in the background; returns at once."""
        place = (tenant, session)
        if place not in self._running:
            task = asyncio.create_task(self._guarded(self._look(tenant, session, budget)))
            self._running[place] = task
            task.add_done_callback(lambda _: self._running.pop(place, None))

    async def look(self, tenant: str, session: str, budget: int) -> Pass:
        """Compact the session if it is time. Raises SessionNotFound, Forgotten, UnknownPolicy."""
        keys = session_keys(tenant, session)
        moment = await moments.now(self._redis, keys)
        if moment.used <= TRIGGER * budget:
            return Pass("small")
        passes, until = await self._rest(keys)
        if moment.tokens < until:
            return Pass("resting")
        lease = self._redis.lock(keys.lease, timeout=2 * PASS_S, blocking=False)
        if not await lease.acquire():
            return Pass("taken")
        try:
            plan = await self._pass(tenant, session, int(budget * TARGET))
        finally:
            await lease.release()
        if plan.plan:
            await self._redis.delete(keys.rest)
        else:
            wait = REST * budget * 2 ** min(passes, MOST_RESTS)
            until = int(moment.tokens + wait)
            await self._redis.set(keys.rest, f"{passes + 1}:{until}", ex=REST_KEPT_S)
        return plan

    def start(self) -> None:
        """Erase what is due, from now on."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Break off what runs: a plan is put in force in one piece or not at all."""
        tasks = [*self._running.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait for the passes that run now."""
        await asyncio.gather(*self._running.values())

    async def _pass(self, tenant: str, session: str, target: int) -> Pass:
        try:
            async with asyncio.timeout(PASS_S):
                made = await self._compaction.compact(
                    tenant,
                    session,
                    self._policy,
                    target,
                    trigger="background",
                    least_gain=LEAST_GAIN,
                )
        except BudgetTooSmall:
            return Pass("no gain")  # the floor alone is over the target
        except TimeoutError:
            return Pass("late")
        return Pass("compacted" if made.plan.id else "no gain", made.plan.id)

    async def _rest(self, keys: SessionKeys) -> tuple[int, int]:
        """Passes in vain so far, and the size of the log at which to try again."""
        passes, _, until = (await self._redis.get(keys.rest) or "0:0").partition(":")
        return int(passes), int(until)

    async def _look(self, tenant: str, session: str, budget: int) -> None:
        self.done(await self.look(tenant, session, budget))

    async def _sweep(self) -> None:
        while True:
            await self._guarded(self._swept())
            await asyncio.sleep(SWEEP_S)

    async def _swept(self) -> None:
        erased = await self._changes.sweep()
        if erased:
            log.info("erased %d deleted steps", erased)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for upkeep: what goes wrong is logged, and tried again on the next occasion."""
        try:
            await work
        except (StoreError, RedisError) as error:
            log.warning("upkeep: %s", error)
