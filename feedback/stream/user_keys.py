"""Keys of end users: what a person did is sealed under a key of theirs, and unreadable once that is gone.

    burnish:user-keys    a hash:  u:PSEUDONYM -> a key's id      what seals what they do from now on
                                  k:ID -> 32 random bytes        what opens it; empty once destroyed

They lie in Redis, which serving and learner share, and are durable before anything is sealed under them. An id is
random: once a key is destroyed, nothing in the stream says whose it was. Left out: what is sealed, and how.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.feedback.contract import USER_KEYS
from burnish.feedback.stream.durable_redis import DurableRedis

KEY_BYTES = 32  # AES-256

Person = tuple[str, str]  # tenant and end user


@dataclass(frozen=True)
class UserKey:
    id: str
    secret: bytes


def pseudonym(tenant: str, user: str) -> str:
    """Stands for an end user where their name must not: 128 bits of SHA-256. Whoever guesses the name can
    confirm it."""
    name = json.dumps([tenant, user]).encode("utf-8", "surrogatepass")
    return hashlib.sha256(name).hexdigest()[:32]


class UserKeys:
    """Calls block, belong to one thread, and raise StreamUnavailable."""

    def __init__(self, url: str, *, replicas: int = 0) -> None:
        self._redis = DurableRedis(url, replicas=replicas)

    def sealing(self, people: Collection[Person]) -> dict[Person, UserKey]:
        """Their keys, made where there are none: one question for all of them."""
        if not people:
            return {}
        fields = {person: f"u:{pseudonym(*person)}" for person in people}
        with self._redis.errors():
            server = self._redis.on(USER_KEYS)
            ids = self._ids(server, fields)
            missing = [person for person, id in ids.items() if id is None]
            if missing:
                ids |= self._make(server, {person: fields[person] for person in missing})
            secrets_of = self._secrets(server, [id for id in ids.values() if id is not None])
        # One that was destroyed between the two questions seals nothing that anybody will read.
        return {
            person: UserKey(id, secrets_of.get(id) or secrets.token_bytes(KEY_BYTES))
            for person, id in ids.items()
            if id is not None
        }

    def opening(self, ids: Collection[str]) -> dict[str, bytes | None]:
        """The secrets by key id; None for a key that was destroyed. One that is not here is left out."""
        if not ids:
            return {}
        with self._redis.errors():
            found = self._secrets(self._redis.on(USER_KEYS), list(ids))
        return {id: secret or None for id, secret in found.items()}

    def destroy(self, tenant: str, user: str) -> bool:
        """Make all that was sealed for an end user unreadable, durably; whether there was a key."""
        field = f"u:{pseudonym(tenant, user)}"
        with self._redis.errors():
            server = self._redis.on(USER_KEYS)
            id = server.hget(USER_KEYS, field)
            if id is None:
                return False
            pipe = server.pipeline(transaction=True)
            pipe.hset(USER_KEYS, f"k:{id.decode()}", b"")
            pipe.hdel(USER_KEYS, field)
            pipe.execute()
            self._keep(server)
        return True

    def close(self) -> None:
        self._redis.close()

    def _ids(self, server: Any, fields: Mapping[Person, str]) -> dict[Person, str | None]:
        found = server.hmget(USER_KEYS, list(fields.values()))
        return {p: id.decode() if id else None for p, id in zip(fields, found, strict=True)}

    def _secrets(self, server: Any, ids: Collection[str]) -> dict[str, bytes]:
        found = server.hmget(USER_KEYS, [f"k:{id}" for id in ids]) if ids else []
        return {id: secret for id, secret in zip(ids, found, strict=True) if secret is not None}

    def _make(self, server: Any, fields: Mapping[Person, str]) -> dict[Person, str | None]:
        """Where another process was quicker, its key is taken."""
        made = {person: secrets.token_hex(16) for person in fields}
        pipe = server.pipeline(transaction=True)
        for person, field in fields.items():
            pipe.hset(USER_KEYS, f"k:{made[person]}", secrets.token_bytes(KEY_BYTES))
            pipe.hsetnx(USER_KEYS, field, made[person])
        pipe.execute()
        ids = self._ids(server, fields)
        unused = [f"k:{id}" for person, id in made.items() if ids[person] != id]
        if unused:
            server.hdel(USER_KEYS, *unused)
        self._keep(server)
        return ids

    def _keep(self, server: Any) -> None:
        self._redis.await_replicas(server)
        self._redis.await_fsync(server)
