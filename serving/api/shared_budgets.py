"""Accounts that all replicas share, on their Redis: a key's budget is counted once, wherever it is used.

One script a request, by the server's clock. A replica that dies holds its running requests for `HOLD_S`.
While Redis is away each replica counts for itself, from full buckets, so that for this time a key may use
its budget at each of them: chat is worth more than the limit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import Any

import redis.asyncio
from burnish.feedback.contract import BUDGET_PREFIX
from burnish.serving.api.budgets import Balance, Limits, LocalAccounts
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

HOLD_S = 30.0  # a running request's place, unless it is held again
PAUSE_S = 5.0  # before a Redis that failed is asked again


class SharedAccounts:
    """On `client`, which has short time-outs. `now` replaces the server's clock."""

    def __init__(
        self,
        limits: Limits,
        client: redis.asyncio.Redis,
        *,
        now: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._now, self._clock = limits, now, clock
        self._client = client
        text = (files("burnish.serving.api") / "shared_budgets.lua").read_text()
        self._script = client.register_script(text)
        self._alone = LocalAccounts(limits, now or clock)
        self._counted_alone: set[str] = set()
        self._running: dict[str, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._holder: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self.last_error: str | None = None
        """Why this replica counts for itself at present."""

    async def enter(self, account: str, request: str) -> tuple[bool, Balance]:
        told = await self._ask("enter", account, request)
        if told is None:
            let_in, balance = await self._alone.enter(account, request)
            if let_in:
                self._counted_alone.add(request)
            return let_in, balance
        let_in, crowded, requests, tokens = told
        left = {"requests": float(requests), "tokens": float(tokens)}
        if let_in:
            self._running.setdefault(account, set()).add(request)
            self._hold_on()
        limited = self._limits.per_minute()
        return bool(let_in), Balance({what: left[what] for what in limited}, bool(crowded))

    def leave(self, account: str, request: str) -> None:
        if request in self._counted_alone:
            self._counted_alone.discard(request)
            self._alone.leave(account, request)
            return
        self._running[account].discard(request)
        if not self._running[account]:
            del self._running[account]
        if self._limits.concurrent:
            self._later(self._tell("leave", account, request))

    def spend(self, account: str, tokens: int) -> None:
        self._later(self._spend(account, tokens))

    async def close(self) -> None:
        """Tell what is still to be told."""
        if self._holder is not None:
            self._holder.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _spend(self, account: str, tokens: int) -> None:
        if await self._ask("spend", account, str(tokens)) is None:
            self._alone.spend(account, tokens)

    async def _tell(self, act: str, account: str, *what: str) -> None:
        await self._ask(act, account, *what)

    async def _ask(self, act: str, account: str, *what: str) -> Any:
        """The script's answer; None while Redis does not give one."""
        if self._clock() < self._away_until:
            return None
        limits = self._limits
        numbers = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent, HOLD_S)
        key = f"{BUDGET_PREFIX}{{{account}}}"
        now = "" if self._now is None else f"{self._now():.6f}"
        try:
            told = await self._script(
                keys=[key, f"{key}:running"], args=[act, now, *numbers, *what]
            )
        except (RedisError, OSError) as error:
            if self.last_error is None:
                log.warning("budgets are counted by this replica alone: %s", error)
            self.last_error = f"the Redis of BURNISH_REDIS_URL: {error}"
            self._away_until = self._clock() + PAUSE_S
            return None
        self.last_error = None
        return told

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hold_on(self) -> None:
        """Keep the places of what runs for as long as it does."""
        if self._limits.concurrent and (self._holder is None or self._holder.done()):
            self._holder = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        while self._running:
            await asyncio.sleep(HOLD_S / 3)
            for account, requests in list(self._running.items()):
                await self._ask("hold", account, *requests)
