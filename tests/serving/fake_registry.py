"""A registry in memory, for tests that are not about MLflow. It can be away, and can lie."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from burnish.serving.registry import (
    HashMismatch,
    Move,
    NothingToRollBack,
    PolicyRegistry,
    PolicyVersion,
    RegistryError,
    UnknownVersion,
    adapter_sha256,
)


class FakeRegistry(PolicyRegistry):
    def __init__(self) -> None:
        self.store: dict[tuple[str, int], PolicyVersion] = {}
        self.aliases: dict[tuple[str, str], int] = {}
        self.weights: dict[str, bytes] = {}
        self.moves: list[Move] = []
        self.away = False
        self.tampered: set[str] = set()

    def ensure_base(
        self, policy: str, model_path: Path | str, model_sha256: str, *, kind: str = "true"
    ) -> PolicyVersion:
        self._here()
        if (policy, 1) not in self.store:
            self.store[policy, 1] = PolicyVersion(policy, 1, None, None, model_sha256, time.time())
            self.aliases[policy, "champion"] = 1
        return self.store[policy, 1]

    def add(self, weights: bytes = b"weights", policy: str = "default", base: str = "") -> int:
        """Register a version with these weights; returns its number."""
        number = 1 + max(version for name, version in self.store if name == policy)
        base = base or self.store[policy, 1].base_sha256
        with TemporaryDirectory() as folder:
            sha256 = adapter_sha256(_write(weights, Path(folder)))
        version = PolicyVersion(policy, number, 1, sha256, base, time.time())
        self.store[policy, number] = version
        self.weights[version.ref] = weights
        return number

    def promote(self, policy: str, version: int, *, who: str | None = None) -> PolicyVersion:
        found = self.get(policy, version)
        before = self.aliases[policy, "champion"]
        self.aliases[policy, "previous"] = before
        self.aliases[policy, "champion"] = version
        self.moves.append(Move(time.time(), who or "", "promote", before, version))
        return found

    def rollback(self, policy: str, *, who: str | None = None) -> PolicyVersion:
        self._here()
        if (policy, "previous") not in self.aliases:
            raise NothingToRollBack("no previous version")
        return self.promote(policy, self.aliases[policy, "previous"], who=who)

    def note_moves(self, policy: str) -> Move | None:
        return None

    def champion_version(self, policy: str) -> int | None:
        self._here()
        return self.aliases.get((policy, "champion"))

    def get(self, policy: str, version: int) -> PolicyVersion:
        self._here()
        if (policy, version) not in self.store:
            raise UnknownVersion(f"no version {version}")
        return self.store[policy, version]

    def versions(self, policy: str) -> list[PolicyVersion]:
        self._here()
        return [version for (name, _), version in sorted(self.store.items()) if name == policy]

    def policies(self) -> list[str]:
        self._here()
        return sorted({name for name, _ in self.store})

    def history(self, policy: str) -> list[Move]:
        return self.moves

    def fetch(self, version: PolicyVersion, into: Path) -> Path | None:
        self._here()
        if version.ref in self.tampered:
            raise HashMismatch(f"{version.ref}: the adapter's sha256 is not the registered one")
        folder = into / version.ref
        folder.mkdir(parents=True, exist_ok=True)
        return _write(self.weights[version.ref], folder)

    def _here(self) -> None:
        if self.away:
            raise RegistryError("nobody answers")


def _write(weights: bytes, folder: Path) -> Path:
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder
