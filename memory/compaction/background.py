"""Background maintenance: compacting sessions that grow, erasing steps whose deletion is final.

A session is compacted when its view has grown past TRIGGER of the budget it is asked for, to TARGET
of it. One pass per request, one at a time per session (a lease in Redis), each within a wall-clock
cap. A pass that would gain under LEAST_GAIN changes nothing and backs off: the next one waits until
the session has grown, twice as long after each such pass.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from burnish.memory.compaction.session_compaction import SessionCompaction
from burnish.memory.errors import BudgetTooSmall, StoreError
from burnish.memory.sessions.changes import Changes
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.scripts import session_keys
from burnish.memory.sessions.snapshot import current_snapshot
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

TRIGGER = 0.75  # of the budget
TARGET = 0.4  # of the budget
LEAST_GAIN = 0.1  # of the view's tokens
BACKOFF = 0.1  # of the budget: growth to wait for after the first pass without gain
MAX_DOUBLINGS = 6  # of BACKOFF
PASS_SECONDS = 60.0
BACKOFF_TTL_SECONDS = 7 * 24 * 3600
SWEEP_SECONDS = 30.0


@dataclass(frozen=True)
class CompactionPass:
    """What one pass over a session came to, and the plan it put in force, if any."""

    outcome: str  # "compacted", "small", "resting", "taken", "no gain", "late"
    plan: str = ""


class BackgroundCompaction:
    """`policy` is what decides in the background. Raises UnknownPolicy."""

    def __init__(
        self, redis: Any, compaction: SessionCompaction, changes: Changes, policy: str = "bm25"
    ) -> None:
        self._redis = redis
        compaction.policies.get(policy)  # an unknown policy is refused now, not in the background
        self._compaction = compaction
        self._changes = changes
        self._policy = policy
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self.on_pass: Callable[[CompactionPass], None] = lambda _: None  # called after each pass

    def schedule(self, tenant: str, session: str, budget: int) -> None:
        """Compact the session soon, if it is due; returns at once."""
        key = (tenant, session)
        if key not in self._running:
            task = asyncio.create_task(self._log_errors(self._run(tenant, session, budget)))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))

    async def compact_if_due(self, tenant: str, session: str, budget: int) -> CompactionPass:
        """One pass over the session. Raises SessionNotFound, Forgotten, UnknownPolicy."""
        keys = session_keys(tenant, session)
        snapshot = await current_snapshot(self._redis, keys)
        if snapshot.used <= TRIGGER * budget:
            return CompactionPass("small")
        in_vain, until = await self._backoff(keys)
        if snapshot.tokens < until:
            return CompactionPass("resting")
        lease = self._redis.lock(keys.lease, timeout=2 * PASS_SECONDS, blocking=False)
        if not await lease.acquire():
            return CompactionPass("taken")
        try:
            done = await self._compact(tenant, session, int(budget * TARGET))
        finally:
            await lease.release()
        if done.plan:
            await self._redis.delete(keys.backoff)
        else:
            wait = BACKOFF * budget * 2 ** min(in_vain, MAX_DOUBLINGS)
            until = int(snapshot.tokens + wait)
            await self._redis.set(keys.backoff, f"{in_vain + 1}:{until}", ex=BACKOFF_TTL_SECONDS)
        return done

    def start(self) -> None:
        """Erase steps whose deletion is final, from now on."""
        self._sweeper = asyncio.create_task(self._sweep_forever())

    @property
    def vital(self) -> asyncio.Task[None] | None:
        """The task without which deleted steps are never erased, once started."""
        return self._sweeper

    async def stop(self) -> None:
        """Cancel what runs: a plan is put in force in one piece or not at all."""
        tasks = [*self._running.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait for the passes that run now."""
        await asyncio.gather(*self._running.values())

    async def _compact(self, tenant: str, session: str, target: int) -> CompactionPass:
        try:
            async with asyncio.timeout(PASS_SECONDS):
                result = await self._compaction.compact(
                    tenant,
                    session,
                    self._policy,
                    target,
                    trigger="background",
                    least_gain=LEAST_GAIN,
                )
        except BudgetTooSmall:
            return CompactionPass("no gain")  # the floor alone is over the target
        except TimeoutError:
            return CompactionPass("late")
        return CompactionPass("compacted" if result.plan.id else "no gain", result.plan.id)

    async def _backoff(self, keys: SessionKeys) -> tuple[int, int]:
        """Passes in vain so far, and the size of the log at which to try again."""
        in_vain, _, until = (await self._redis.get(keys.backoff) or "0:0").partition(":")
        return int(in_vain), int(until)

    async def _run(self, tenant: str, session: str, budget: int) -> None:
        self.on_pass(await self.compact_if_due(tenant, session, budget))

    async def _sweep_forever(self) -> None:
        while True:
            await self._log_errors(self._sweep())
            await asyncio.sleep(SWEEP_SECONDS)

    async def _sweep(self) -> None:
        erased = await self._changes.sweep()
        if erased:
            log.info("erased %d deleted steps", erased)

    async def _log_errors(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for this work: what fails is logged, and tried again next time."""
        try:
            await work
        except (StoreError, RedisError) as error:
            log.warning("background compaction: %s", error)
