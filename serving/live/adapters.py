"""Adapters on this machine: fetched, verified, loaded into the engine, and cleared away.

The folder also keeps a note of what was served last, so that a restart waits for nobody. Left
out: which versions are wanted (policies.py). Calls block; one at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.serving.engine import Engine, EngineError
from burnish.serving.registry import (
    BaseMismatch,
    PolicyRegistry,
    PolicyVersion,
    adapter_sha256,
)


class VersionUnavailable(RuntimeError):
    """The version exists but cannot be loaded now."""


@dataclass(frozen=True)
class Served:
    """A version as it can be asked to answer. `adapter` is the engine's name for it, None the base."""

    policy: str
    version: int
    adapter: str | None = None
    sha256: str | None = None

    @property
    def ref(self) -> str:
        return f"{self.policy}@{self.version}"


class Adapters:
    """The engine's adapters and the folder they are loaded from."""

    def __init__(self, engine: Engine, registry: PolicyRegistry, folder: Path):
        self._engine = engine
        self._registry = registry
        self._folder = folder
        self._note = folder / "served.json"

    def load(self, version: PolicyVersion) -> Served:
        """Make `version` resident. Raises VersionUnavailable, BaseMismatch, RegistryError."""
        if version.base_sha256 != self._engine.model_sha256:
            raise BaseMismatch(f"{version.ref} belongs to another base model than the one loaded")
        if version.sha256 is None:
            return Served(version.policy, version.version)
        if version.ref not in self._engine.adapters:
            try:
                fetched = self._registry.fetch(version, self._folder)
                self._engine.load_adapter(version.ref, fetched or self._folder)
            except (EngineError, ValueError, OSError) as error:
                # A hash that differs is a ValueError, and so is an adapter of a wrong shape.
                raise VersionUnavailable(str(error)) from error
        return Served(version.policy, version.version, version.ref, version.sha256)

    def sweep(self, needed: set[str]) -> None:
        """Unload and delete what is not needed: the registry keeps every version."""
        for name in self._engine.adapters:
            if name not in needed:
                self._engine.unload_adapter(name)
        for folder in self._folder.glob("*@*"):
            if folder.name not in self._engine.adapters:
                shutil.rmtree(folder)

    def note(self, served: Iterable[Served]) -> None:
        """Write down what is served now."""
        content = {one.policy: asdict(one) for one in served}
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._note.with_suffix(".new")
        scratch.write_text(json.dumps({"base": self._engine.model_sha256, "served": content}))
        scratch.replace(self._note)

    def take_up(self, policy: str) -> Served | None:
        """Load what the note says of `policy`; None without a note for it and this base model.

        Raises VersionUnavailable where there is one that cannot be followed.
        """
        try:
            note = json.loads(self._note.read_text())
            if note["base"] != self._engine.model_sha256 or policy not in note["served"]:
                return None
            served = Served(**note["served"][policy])
            if served.adapter is not None:
                folder = self._folder / served.adapter
                if adapter_sha256(folder) != served.sha256:
                    raise VersionUnavailable(f"{folder} is not what was registered")
                self._engine.load_adapter(served.adapter, folder)
        except FileNotFoundError:
            return None
        except (EngineError, ValueError, KeyError, TypeError, OSError) as error:
            raise VersionUnavailable(str(error)) from error
        return served
