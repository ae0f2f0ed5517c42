"""Erasing an end user from what serving holds: spool, shared ledger, stream keys and memory.

A request is noted in Redis before anything is removed (feedback/erasures.py), and each part can be repeated: whichever
process of the fleet is alive carries it out, and goes on with one that was left. The learner does the rest. Every process
clears its own spool of all who were erased, one that was away too, before its events are sent on. Left out: HTTP
(routes/erase.py), and what the learner holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from burnish.feedback.erasures import Erasure, Erasures
from burnish.feedback.errors import FeedbackError
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.user_keys import UserKeys
from burnish.memory import MemoryStore, export_user
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between looks at whether somebody was erased


class Eraser:
    def __init__(
        self,
        erasures: Erasures,
        spool: Spool,
        memory: MemoryStore,
        open_keys: Callable[[], UserKeys],
        look_s: float = LOOK_S,
    ) -> None:
        self.erasures = erasures
        self._spool, self._memory, self._open_keys = spool, memory, open_keys
        self._look_s = look_s
        self._watcher: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Returns once this process's own spool is clear of who was erased, if that can be known."""
        await self._look_or_log()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self.erasures.close()

    @property
    def vital(self) -> asyncio.Task[None] | None:
        """The task without which erasures are left halfway, once started."""
        return self._watcher

    async def count(self, erasure: Erasure) -> None:
        """Note what `carry_out` would remove. Raises RedisError, FeedbackError."""
        tenant, user = erasure.tenant, erasure.user or ""
        found = await asyncio.to_thread(self._spool.count, {erasure.person: erasure.at})
        await self._note(erasure, "spool", found)
        if (sharing := self._spool.sharing) is not None:
            shared = await asyncio.to_thread(sharing.ledger.count, tenant, user)
            await self._note(erasure, "shared_ledger", {"judgements": shared})
        kinds: Counter[str] = Counter()
        async for one in export_user(self._memory, tenant, user):
            kinds[f"{one['type']}s"] += 1
        await self._note(erasure, "memory", kinds)

    async def carry_out(self, erasure: Erasure) -> Erasure | None:
        """Remove what serving and memory hold; None where another process is at it. Raises RedisError,
        StoreError, FeedbackError: it is tried again later."""
        if erasure.user is None or not await asyncio.to_thread(self.erasures.take, erasure.id):
            return None
        tenant, user = erasure.tenant, erasure.user
        try:
            found = await asyncio.to_thread(self._spool.forget, {erasure.person: erasure.at})
            await self._note(erasure, "spool", found)
            if (sharing := self._spool.sharing) is not None:
                shared = await asyncio.to_thread(sharing.ledger.forget, tenant, user)
                await self._note(erasure, "shared_ledger", {"judgements": shared})
            destroyed = await asyncio.to_thread(self._destroy_key, tenant, user)
            await self._note(erasure, "stream", {"keys": int(destroyed)})
            forgotten = await self._memory.forget_user(tenant, user)
            await self._note(erasure, "memory", forgotten)
            return await asyncio.to_thread(self.erasures.advance, erasure.id, "served")
        finally:
            await asyncio.to_thread(self.erasures.release, erasure.id)

    def _destroy_key(self, tenant: str, user: str) -> bool:
        keys = self._open_keys()
        try:
            return keys.destroy(tenant, user)
        finally:
            keys.close()

    async def _note(self, erasure: Erasure, store: str, kinds: dict[str, int]) -> None:
        await asyncio.to_thread(self.erasures.add_removed, erasure.id, store, kinds)

    async def look(self) -> None:
        """Clear this spool of who was erased elsewhere, and go on with what was left halfway."""
        since = await asyncio.to_thread(self._spool.forgotten_until)
        erased = await asyncio.to_thread(self.erasures.erased_since, since)
        if erased:
            await asyncio.to_thread(self._spool.forget, erased)
        for erasure in await asyncio.to_thread(self.erasures.under_way, "requested"):
            await self.carry_out(erasure)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            await self._look_or_log()

    async def _look_or_log(self) -> None:
        try:
            await self.look()
            self._problem = None
        except (
            Exception
        ) as error:  # the task's top loop: an erasure must not be left for one failure
            expected = isinstance(error, RedisError | FeedbackError)
            if self._problem is None:
                log.warning("erasures wait: %s", error, exc_info=not expected)
            self._problem = str(error)
