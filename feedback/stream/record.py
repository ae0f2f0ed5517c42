"""What travels: one event on the wire, whichever stream carries it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

SEALED = "ce_sealedunder"
"""The header with the id of the key that a record's value is sealed under (sealing.py)."""
DESTROYED = "destroyed"
"""In place of the id, in a record that was read: nobody can open it any more."""


@dataclass(frozen=True)
class StreamRecord:
    """One event on the wire: JSON body, CloudEvents headers, ordering key.

    `partition` and `offset` are known once the record has been read from a stream.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = 0
    offset: str | None = None

    @property
    def event_id(self) -> str:
        """What consumers tell repeated deliveries by; empty if the record is no CloudEvent."""
        return self.headers.get("ce_id", "")

    def with_headers(self, more: Mapping[str, str]) -> Self:
        return replace(self, headers={**self.headers, **more}) if more else self

    @property
    def size(self) -> int:
        """Bytes, near enough to budget with."""
        headers = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.value) + len(self.key) + headers
