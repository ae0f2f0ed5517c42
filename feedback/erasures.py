"""Erasures under way, as serving and learner hand them to each other through Redis.

    burnish:erasures        a set: the ids of those under way
    burnish:erasure:{ID}    a hash: tenant, user (until it is gone everywhere), at, dry_run, state, by; how much was
                            removed, as removed:STORE:KIND; held, the versions that saw it, as JSON
    burnish:erased          a sorted set: pseudonyms by the time until which what they did is erased, for
                            every replica's spool, also one that is away at present

    requested   serving removes what it and memory hold
    served      the learner removes what its database holds
    weights     versions that saw it may still be served: an update begins anew from the base
    finished    (a dry run: counted)

Each step can be repeated, so a crash in the middle costs nothing but time. Left out: removing anything.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.feedback.contract import ERASED_KEY, ERASURE_PREFIX, ERASURES_KEY
from burnish.feedback.redis_clients import open_client
from burnish.feedback.stream.user_keys import pseudonym

State = Literal["requested", "served", "weights", "finished"]
Removed = Mapping[str, Mapping[str, int]]  # store -> kind -> how many

DRY_RUN_S = 600  # that what a dry run found is kept
_REMOVED = "removed:"


@dataclass(frozen=True)
class Erasure:
    """`at` in seconds since the epoch; `user` None once nothing is left to be found by it."""

    id: str
    tenant: str
    person: str
    at: float
    state: State
    user: str | None = None
    dry_run: bool = False
    by: str = ""
    removed: Removed = field(default_factory=dict)
    held: Mapping[str, list[int]] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As a receipt shows it."""
        return {
            "id": self.id,
            "object": "erasure",
            "tenant": self.tenant,
            "person": self.person,
            "at": self.at,
            "dry_run": self.dry_run,
            "state": self.state,
            "removed": {store: dict(kinds) for store, kinds in sorted(self.removed.items())},
            "versions": {policy: list(versions) for policy, versions in self.held.items()},
        }


class Erasures:
    """Calls block, from any thread, and raise redis.RedisError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        if self._opened is None:
            self._opened = open_client(
                self._url, socket_timeout=10, socket_connect_timeout=2, decode_responses=True
            )
        return self._opened

    def request(self, tenant: str, user: str, *, by: str, dry_run: bool = False) -> Erasure:
        """Begin one; it is under way once this returns."""
        made = Erasure(
            id=f"erase-{secrets.token_hex(12)}",
            tenant=tenant,
            person=pseudonym(tenant, user),
            at=time.time(),
            state="requested",
            user=user,
            dry_run=dry_run,
            by=by,
        )
        fields = {
            "tenant": tenant,
            "user": user,
            "person": made.person,
            "at": repr(made.at),
            "dry_run": int(dry_run),
            "state": made.state,
            "by": by,
        }
        self._client.hset(_key(made.id), mapping=fields)
        if dry_run:
            self._client.expire(_key(made.id), DRY_RUN_S)
        else:
            self._client.zadd(ERASED_KEY, {made.person: made.at})
            self._client.sadd(ERASURES_KEY, made.id)
        return made

    def get(self, id: str) -> Erasure | None:
        found = self._client.hgetall(_key(id))
        return _erasure(id, found) if found else None

    def under_way(self, *states: State) -> list[Erasure]:
        """Those in one of these states, the oldest first."""
        found = [self.get(id) for id in self._client.smembers(ERASURES_KEY)]
        return sorted((e for e in found if e and e.state in states), key=lambda e: e.at)

    def add_removed(self, id: str, store: str, kinds: Mapping[str, int]) -> None:
        """Note what is gone, once it is gone."""
        for kind, number in kinds.items():
            if number:
                self._client.hincrby(_key(id), f"{_REMOVED}{store}:{kind}", number)

    def advance(
        self, id: str, state: State, held: Mapping[str, list[int]] | None = None
    ) -> Erasure | None:
        """Move on to a state; past `served` the name is forgotten, and at the end it is under way no more."""
        change = {"state": state} | ({} if held is None else {"held": json.dumps(dict(held))})
        self._client.hset(_key(id), mapping=change)
        if state in ("weights", "finished"):
            self._client.hdel(_key(id), "user")
        if state == "finished":
            self._client.srem(ERASURES_KEY, id)
        return self.get(id)

    def erased_since(self, at: float) -> dict[str, float]:
        """Pseudonyms of who was erased after that time, with the time until when."""
        return dict(self._client.zrangebyscore(ERASED_KEY, f"({at!r}", "+inf", withscores=True))

    def take(self, id: str, seconds: int = 60) -> bool:
        """Whether this caller may carry the erasure out: of several, one at a time."""
        return bool(self._client.set(f"{_key(id)}:taken", "1", nx=True, ex=seconds))

    def release(self, id: str) -> None:
        self._client.delete(f"{_key(id)}:taken")

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _key(id: str) -> str:
    return f"{ERASURE_PREFIX}{{{id}}}"


def _erasure(id: str, found: Mapping[str, str]) -> Erasure:
    removed: dict[str, dict[str, int]] = {}
    for name, number in found.items():
        if name.startswith(_REMOVED):
            store, _, kind = name.removeprefix(_REMOVED).partition(":")
            removed.setdefault(store, {})[kind] = int(number)
    state: Any = found["state"]
    return Erasure(
        id=id,
        tenant=found["tenant"],
        person=found["person"],
        at=float(found["at"]),
        state=state,
        user=found.get("user"),
        dry_run=found.get("dry_run") == "1",
        by=found.get("by", ""),
        removed=removed,
        held=json.loads(found.get("held", "{}")),
    )
