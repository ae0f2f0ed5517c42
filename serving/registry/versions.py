"""A policy version, a change of the champion, and the hash that identifies an adapter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE_VERSION = 1  # of every policy
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class PolicyVersion:
    """One version as registered. `sha256` None: the base itself, without adapter."""

    policy: str
    version: int
    parent: int | None
    sha256: str | None
    base_sha256: str
    created_at: float  # seconds since 1970
    aliases: tuple[str, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    gate_report: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    signature: str | None = None  # signatures.py

    @property
    def ref(self) -> str:
        return f"{self.policy}@{self.version}"


@dataclass(frozen=True)
class Pause:
    """Nothing is promoted by itself since then: who paused it, and why."""

    at: float  # seconds since 1970
    who: str
    why: str = ""


@dataclass(frozen=True)
class Move:
    """The champion changed. `what` is "start", "promote", "rollback" or "moved outside"."""

    at: float  # seconds since 1970
    who: str
    what: str
    before: int | None
    after: int


@dataclass(frozen=True)
class Overview:
    """A policy as it stands: its versions, how the champion moved, both oldest first, and whether that is paused."""

    versions: Sequence[PolicyVersion]
    history: Sequence[Move]
    paused: Pause | None


def adapter_sha256(folder: Path) -> str:
    """One hash over an adapter's two files: the configuration scales what the weights do."""
    digest = hashlib.sha256()
    for name in ADAPTER_FILES:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def matches(folder: Path, sha256: str) -> bool:
    """Whether `folder` holds the adapter with this hash."""
    present = all((folder / name).is_file() for name in ADAPTER_FILES)
    return present and adapter_sha256(folder) == sha256
