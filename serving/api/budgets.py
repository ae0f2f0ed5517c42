"""What one API key may use: requests a minute, tokens a minute, requests at once.

Token buckets (a bucket holds one minute's allowance and is refilled evenly), in this process's
memory: each replica counts for itself, and a restart forgets. Tokens are known only afterwards, so a
request is let in while any are left and what it used is taken then; a debt is waited out.
Left out: money, and limits of single keys.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from burnish.serving.api.auth import Principal
from burnish.serving.api.errors import ApiError

MINUTE = 60.0


class Bucket:
    """`per_minute` units that come back evenly. `left` may be negative: a debt."""

    def __init__(self, per_minute: int, now: float):
        self.per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def left(self, now: float) -> float:
        refilled = self._left + (now - self._at) * self.per_minute / MINUTE
        self._left, self._at = min(refilled, float(self.per_minute)), now
        return self._left

    def take(self, units: float, now: float) -> None:
        self._left = self.left(now) - units

    def seconds_until(self, units: float, now: float) -> float:
        """How long until so many are there; 0 if they are, but for rounding."""
        seconds = (units - self.left(now)) * MINUTE / self.per_minute
        return seconds if seconds > 1e-6 else 0.0


@dataclass
class _Account:
    requests: Bucket | None
    tokens: Bucket | None
    running: int = 0


class Budgets:
    """The accounts of all keys. A limit of 0 is none."""

    def __init__(
        self,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        concurrent: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._concurrent = concurrent
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    @contextmanager
    def admit(self, who: Principal | None) -> Iterator[Mapping[str, str]]:
        """Count a request of `who` while it runs; gives the headers that tell what is left.

        Raises ApiError (429) with the seconds to wait.
        """
        limited = self._requests_per_minute or self._tokens_per_minute or self._concurrent
        if who is None or not limited:
            yield {}
            return
        account, now = self._account(who.account), self._clock()
        self._check(account, now)
        if account.requests is not None:
            account.requests.take(1, now)
        account.running += 1
        try:
            yield _headers(account, now)
        finally:
            account.running -= 1

    def spend(self, account: str, tokens: int) -> None:
        """Take what an answer has used, prompt included."""
        bucket = self._account(account).tokens
        if bucket is not None:
            bucket.take(tokens, self._clock())

    def _check(self, account: _Account, now: float) -> None:
        if self._concurrent and account.running >= self._concurrent:
            message = f"This key has {self._concurrent} requests running, as many as it may."
            raise _refusal(account, now, message, 1.0)
        for bucket, what in ((account.requests, "requests"), (account.tokens, "tokens")):
            wait = 0.0 if bucket is None else bucket.seconds_until(1, now)
            if bucket is not None and wait > 0:
                message = f"This key may use {bucket.per_minute} {what} a minute, and has."
                raise _refusal(account, now, message, wait)

    def _account(self, name: str) -> _Account:
        if name not in self._accounts:
            now = self._clock()
            requests, tokens = self._requests_per_minute, self._tokens_per_minute
            self._accounts[name] = _Account(
                Bucket(requests, now) if requests else None,
                Bucket(tokens, now) if tokens else None,
            )
        return self._accounts[name]


def _refusal(account: _Account, now: float, message: str, wait: float) -> ApiError:
    seconds = max(1, math.ceil(wait))
    error = ApiError(
        429,
        f"{message} Try again in {seconds} s.",
        code="rate_limit_exceeded",
        retry_after=seconds,
    )
    error.headers.update(_headers(account, now))
    return error


def _headers(account: _Account, now: float) -> dict[str, str]:
    """OpenAI's `x-ratelimit-*`: the limit, what is left of it, and when it is whole again."""
    headers: dict[str, str] = {}
    for bucket, what in ((account.requests, "requests"), (account.tokens, "tokens")):
        if bucket is not None:
            whole = bucket.seconds_until(bucket.per_minute, now)
            headers[f"x-ratelimit-limit-{what}"] = str(bucket.per_minute)
            headers[f"x-ratelimit-remaining-{what}"] = str(max(0, math.floor(bucket.left(now))))
            headers[f"x-ratelimit-reset-{what}"] = f"{whole:.3g}s"
    return headers
