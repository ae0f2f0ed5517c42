"""Crypto-shredding: what end users did travels sealed under a key of theirs (user_keys.py).

    value                  a nonce of 12 bytes, then the body by AES-256-GCM (NIST SP 800-38D); the event's id is
                           authenticated with it
    ce_sealedunder         the key's id
    content-type           application/octet-stream
    key, ce_partitionkey   a digest, where it is a session, whose name is the client's

A log that only grows, and copies of it, forget a person when their key is destroyed. Ids, types and times of events
stay readable. Sealed and opened are batches, for one question to Redis each, off the path of any request.
Left out: events that name no end user, which travel as they are; and what is stored after the stream.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from burnish.feedback.errors import RecordRefused
from burnish.feedback.ids import PREFIXES
from burnish.feedback.stream.event_stream import EventStream
from burnish.feedback.stream.record import DESTROYED, SEALED, StreamRecord
from burnish.feedback.stream.user_keys import Person, UserKey, UserKeys
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ValidationError

_NONCE_BYTES = 12
_TYPE, _SEALED_TYPE, _PLAIN_TYPE = "content-type", "application/octet-stream", "application/json"


class _Owner(BaseModel):
    tenant: str
    user: str


def owner_of(record: StreamRecord) -> Person | None:
    """Whose event it is; None if it names nobody, or is sealed."""
    if SEALED in record.headers:
        return None
    try:
        owner = _Owner.model_validate_json(record.value)
    except ValidationError:
        return None
    return owner.tenant, owner.user


def seal(record: StreamRecord, key: UserKey) -> StreamRecord:
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(nonce, record.value, record.event_id.encode())
    routed = record.key if record.key.startswith(PREFIXES) else _digest(record.key)
    headers = {**record.headers, _TYPE: _SEALED_TYPE, SEALED: key.id}
    if "ce_partitionkey" in headers:
        headers["ce_partitionkey"] = routed
    return replace(record, key=routed, value=nonce + sealed, headers=headers)


def unseal(record: StreamRecord, secrets: Mapping[str, bytes | None]) -> StreamRecord:
    """The record as it was sealed; one whose key was destroyed says so; others as they are."""
    id = record.headers.get(SEALED)
    if id is None or id not in secrets:
        return record
    secret = secrets[id]
    if secret is None:
        return record.with_headers({SEALED: DESTROYED})
    nonce, sealed = record.value[:_NONCE_BYTES], record.value[_NONCE_BYTES:]
    try:
        body = AESGCM(secret).decrypt(nonce, sealed, record.event_id.encode())
    except (InvalidTag, ValueError):
        return record  # changed on its way: the reader cannot use it, and says so
    headers = {name: value for name, value in record.headers.items() if name != SEALED}
    return replace(record, value=body, headers={**headers, _TYPE: _PLAIN_TYPE})


class SealingStream:
    """An EventStream that seals what it publishes to `inner`, and opens what it reads."""

    def __init__(self, inner: EventStream, keys: UserKeys) -> None:
        self.inner, self._keys = inner, keys
        self.system = inner.system

    def ensure_topics(self) -> None:
        self.inner.ensure_topics()

    def publish(self, records: Sequence[StreamRecord]) -> None:
        owners = [owner_of(record) for record in records]
        keys = self._keys.sealing({owner for owner in owners if owner is not None})
        sealed = [
            record if owner is None else seal(record, keys[owner])
            for record, owner in zip(records, owners, strict=True)
        ]
        try:
            self.inner.publish(sealed)
        except RecordRefused as refused:
            for record, sent in zip(records, sealed, strict=True):
                if refused.record is sent:
                    refused.record = record  # the one that our caller knows
            raise

    def partitions(self, topic: str) -> list[int]:
        return self.inner.partitions(topic)

    def read(
        self,
        topic: str,
        partition: int,
        after: str | None,
        max_records: int = 500,
        timeout: float = 0.0,
    ) -> list[StreamRecord]:
        records = self.inner.read(topic, partition, after, max_records, timeout)
        secrets = self._keys.opening({r.headers[SEALED] for r in records if SEALED in r.headers})
        return [unseal(record, secrets) for record in records]

    def end_offset(self, topic: str, partition: int) -> str | None:
        return self.inner.end_offset(topic, partition)

    def lag(self, topic: str, partition: int, after: str | None) -> int:
        return self.inner.lag(topic, partition, after)

    def trim(self, topic: str, partition: int, upto: str) -> None:
        self.inner.trim(topic, partition, upto)

    def close(self) -> None:
        self._keys.close()
        self.inner.close()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
