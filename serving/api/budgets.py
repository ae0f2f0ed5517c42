"""What one API key may use: requests a minute, tokens a minute, requests at once.

Token buckets: a bucket holds one minute's allowance and is refilled evenly. Tokens are known only
afterwards, so a request is let in while any are left and what it used is taken then; a debt is waited
out. The accounts are in this process's memory, which a restart forgets, or shared by all replicas
(shared_budgets.py). Left out: money, and limits of single keys.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from burnish.serving.api.auth import Principal
from burnish.serving.api.errors import ApiError

MINUTE = 60.0
ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Limits:
    """Of every key; 0 is none."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrent)

    def per_minute(self) -> Mapping[str, int]:
        """The limits that are buckets, by what they hold."""
        both = {"requests": self.requests_per_minute, "tokens": self.tokens_per_minute}
        return {what: limit for what, limit in both.items() if limit}


@dataclass(frozen=True)
class Balance:
    """An account after a request has asked to be let in. `left` by bucket; negative: a debt."""

    left: Mapping[str, float]
    is_crowded: bool = False  # as many requests run as may

    @property
    def lacking(self) -> str | None:
        """The bucket that has too little for a request, if it was not let in for that."""
        return next((what for what, left in self.left.items() if left < 1 - ROUNDING_S), None)


class Accounts(Protocol):
    """What each account has used."""

    async def enter(self, account: str, request: str) -> tuple[bool, Balance]:
        """Count a request that begins, if it may: whether it was let in, and the balance."""
        ...

    def leave(self, account: str, request: str) -> None:
        """It has ended."""

    def spend(self, account: str, tokens: int) -> None:
        """Take what an answer has used, prompt included."""


class Budgets:
    """Lets requests in, within what their key may use."""

    def __init__(self, limits: Limits, accounts: Accounts) -> None:
        self._limits, self._accounts = limits, accounts

    @asynccontextmanager
    async def admit(self, who: Principal | None) -> AsyncIterator[Mapping[str, str]]:
        """Count a request of `who` while it runs; gives the headers that tell what is left.

        Raises ApiError (429) with the seconds to wait.
        """
        if who is None or not self._limits:
            yield {}
            return
        request = uuid.uuid4().hex
        let_in, balance = await self._accounts.enter(who.account, request)
        if not let_in:
            raise self._refusal(balance)
        try:
            yield self._headers(balance)
        finally:
            self._accounts.leave(who.account, request)

    def spend(self, account: str, tokens: int) -> None:
        if self._limits.tokens_per_minute:
            self._accounts.spend(account, tokens)

    def _refusal(self, balance: Balance) -> ApiError:
        wait = 1.0
        message = f"This key has {self._limits.concurrent} requests running, as many as it may."
        if not balance.is_crowded and (what := balance.lacking):
            limit = self._limits.per_minute()[what]
            message = f"This key may use {limit} {what} a minute, and has."
            wait = (1 - balance.left[what]) * MINUTE / limit
        seconds = max(1, math.ceil(wait - ROUNDING_S))
        error = ApiError(
            429,
            f"{message} Try again in {seconds} s.",
            code="rate_limit_exceeded",
            retry_after=seconds,
        )
        error.headers.update(self._headers(balance))
        return error

    def _headers(self, balance: Balance) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*`: the limit, what is left of it, and when it is whole again."""
        headers: dict[str, str] = {}
        for what, limit in self._limits.per_minute().items():
            left = balance.left[what]
            headers[f"x-ratelimit-limit-{what}"] = str(limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(max(0, math.floor(left)))
            headers[f"x-ratelimit-reset-{what}"] = f"{(limit - left) * MINUTE / limit:.3g}s"
        return headers


class Bucket:
    """`per_minute` units that come back evenly."""

    def __init__(self, per_minute: int, now: float):
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def left(self, now: float) -> float:
        refilled = self._left + (now - self._at) * self._per_minute / MINUTE
        self._left, self._at = min(refilled, float(self._per_minute)), now
        return self._left

    def take(self, units: float, now: float) -> None:
        self._left = self.left(now) - units


class LocalAccounts:
    """In this process's memory: each replica counts for itself."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._buckets: dict[str, dict[str, Bucket]] = {}
        self._running: dict[str, set[str]] = {}

    async def enter(self, account: str, request: str) -> tuple[bool, Balance]:
        now, running = self._clock(), self._running.setdefault(account, set())
        buckets = self._buckets_of(account, now)
        crowded = 0 < self._limits.concurrent <= len(running)
        balance = Balance({what: each.left(now) for what, each in buckets.items()}, crowded)
        if crowded or balance.lacking:
            return False, balance
        if "requests" in buckets:
            buckets["requests"].take(1, now)
        running.add(request)
        return True, Balance({what: each.left(now) for what, each in buckets.items()})

    def leave(self, account: str, request: str) -> None:
        self._running[account].discard(request)

    def spend(self, account: str, tokens: int) -> None:
        now = self._clock()
        self._buckets_of(account, now)["tokens"].take(tokens, now)

    def _buckets_of(self, account: str, now: float) -> dict[str, Bucket]:
        if account not in self._buckets:
            limits = self._limits.per_minute()
            self._buckets[account] = {what: Bucket(limit, now) for what, limit in limits.items()}
        return self._buckets[account]
