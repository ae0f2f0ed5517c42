"""`StubRegistry`: the policy registry over memory instead of MLflow, for tests.

    registry = StubRegistry()
    registry.ensure_base("default", "model", engine.model_sha256)
    version = registry.add(b"any weights")
    registry.promote("default", version, who="ann")
    registry.rollback("default")

Only the store and the place of the signing key differ: aliases, history, hashes, signatures and
errors are those of `PolicyRegistry`. Left out: persistence, and limits on the length of a tag.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from burnish.feedback.audit import AuditLog
from burnish.feedback.keyring import Keyring
from burnish.serving.registry.errors import RegistryError, UnknownVersion
from burnish.serving.registry.model_store import RegisteredModel
from burnish.serving.registry.policy_registry import PolicyRegistry
from burnish.serving.registry.versions import ADAPTER_FILES


class StubRegistry(PolicyRegistry):
    """A registry in memory. `store` holds what MLflow would, for changes made behind its back."""

    def __init__(self, who: str = "stub") -> None:
        self.who = who
        self._keys = MemoryKeys()
        self._audit: AuditLog | None = None
        self.store = MemoryModelStore()
        self._store = self.store

    def add(self, weights: bytes = b"weights", policy: str = "default") -> int:
        """Register a child of version 1 whose adapter consists of these bytes; its number."""
        with TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / ADAPTER_FILES[0]).write_text("{}")
            (folder / ADAPTER_FILES[1]).write_bytes(weights)
            return self.register(policy, folder, parent=1, lineage={}).version


class MemoryKeys:
    """The registry's keyring, in this process."""

    def __init__(self) -> None:
        self._keyring: Keyring | None = None

    def read(self, before_use: Callable[[Keyring], None] | None = None) -> Keyring:
        if self._keyring is None:
            made = Keyring(secrets.token_bytes())
            if before_use is not None:
                before_use(made)
            self._keyring = made
        return self._keyring

    def rotate(self) -> Keyring:
        old = self.read()
        self._keyring = Keyring(secrets.token_bytes(), (old.current, *old.retired))
        return self._keyring

    def drop_retired(self) -> None:
        self._keyring = Keyring(self.read().current)


@dataclass
class StoredVersion:
    """One version of a model, with the JSON documents and the files of its run."""

    name: str
    version: int
    tags: dict[str, str]
    creation_timestamp: int | None  # milliseconds since 1970
    documents: dict[str, str]
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class _Model:
    tags: dict[str, str]
    versions: list[StoredVersion] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)


class MemoryModelStore:
    """A `ModelStore` in this process. While `available` is false every call raises RegistryError."""

    def __init__(self) -> None:
        self.available = True
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()  # callers use threads

    def create_model(self, name: str, tags: Mapping[str, str]) -> bool:
        self._check_available()
        with self._lock:
            if name in self._models:
                return False
            self._models[name] = _Model(dict(tags))
            return True

    def create_version(
        self,
        name: str,
        documents: Mapping[str, Mapping[str, Any]],
        folder: Path | None,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> int:
        model = self._model(name)
        files = {} if folder is None else {f.name: f.read_bytes() for f in folder.iterdir()}
        with self._lock:
            made = StoredVersion(
                name=name,
                version=len(model.versions) + 1,
                tags={**tags, "metrics": json.dumps(dict(metrics))},
                creation_timestamp=int(time.time() * 1000),
                documents={file: json.dumps(content) for file, content in documents.items()},
                files=files,
            )
            model.versions.append(made)
        return made.version

    def document(
        self, found: StoredVersion, file: str, fetch: bool = True
    ) -> dict[str, Any] | None:
        self._check_available()
        content = found.documents.get(file)
        return None if content is None else json.loads(content)

    def model(self, name: str) -> RegisteredModel:
        found = self._model(name)
        return RegisteredModel(dict(found.aliases), dict(found.tags))

    def version(self, name: str, version: int) -> StoredVersion:
        for stored in self._model(name).versions:
            if stored.version == version:
                return stored
        raise UnknownVersion(f"'{name}' has no version {version}")

    def versions(self, name: str, latest: int | None = None) -> list[StoredVersion]:
        self._check_available()
        found = list(self._models[name].versions) if name in self._models else []
        return found if latest is None else found[-latest:]

    def models(self, tag: str) -> list[str]:
        self._check_available()
        return sorted(name for name, model in self._models.items() if tag in model.tags)

    def set_version_tag(self, name: str, version: int, key: str, value: str) -> None:
        self.version(name, version).tags[key] = value

    def alias(self, name: str, alias: str) -> int | None:
        self._check_available()
        return self._models[name].aliases.get(alias) if name in self._models else None

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self._model(name).aliases[alias] = self.version(name, version).version

    def drop_alias(self, name: str, alias: str) -> None:
        self._model(name).aliases.pop(alias, None)

    def set_tag(self, name: str, key: str, value: str) -> None:
        self._model(name).tags[key] = value

    def drop_tag(self, name: str, key: str) -> None:
        self._model(name).tags.pop(key, None)

    def delete_files(self, name: str, version: int) -> None:
        self.version(name, version).files.clear()

    def download(self, name: str, version: int, files: tuple[str, ...], into: Path) -> None:
        stored = self.version(name, version)
        for file in files:
            (into / file).write_bytes(stored.files[file])

    def _model(self, name: str) -> _Model:
        self._check_available()
        if name not in self._models:
            raise UnknownVersion(f"there is no policy '{name}'")
        return self._models[name]

    def _check_available(self) -> None:
        if not self.available:
            raise RegistryError("the registry is not available")
