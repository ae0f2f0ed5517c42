"""Adapters on this machine: fetched, verified, loaded into the engine, and cleared away.

The folder also keeps which versions were served last, so that a restart need not wait for the
registry. Left out: which versions are wanted (policies.py). Calls block; one at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.serving.engine import Engine, EngineError
from burnish.serving.live.errors import VersionUnavailable
from burnish.serving.registry import (
    BaseMismatch,
    HashMismatch,
    PolicyRegistry,
    PolicyVersion,
    RegistryError,
    adapter_sha256,
)


@dataclass(frozen=True)
class ServedVersion:
    """A version that is ready to answer. `adapter` is the engine's name for it, None the base."""

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
        self._served_file = folder / "served.json"

    def load(self, version: PolicyVersion) -> ServedVersion:
        """Make `version` resident. Raises VersionUnavailable, BaseMismatch, RegistryError."""
        if version.base_sha256 != self._engine.model_sha256:
            raise BaseMismatch(f"{version.ref} belongs to another base model than the one loaded")
        if version.sha256 is None:
            return ServedVersion(version.policy, version.version)
        if version.ref not in self._engine.adapters:
            try:
                fetched = self._registry.fetch(version, self._folder)
                self._engine.load_adapter(version.ref, fetched or self._folder)
            except RegistryError as error:
                if not isinstance(error, HashMismatch):
                    raise
                raise VersionUnavailable(str(error)) from error
            except Exception as error:
                # Files of others: whatever is wrong with them is this version's failure alone.
                raise VersionUnavailable(_told(error)) from error
        return ServedVersion(version.policy, version.version, version.ref, version.sha256)

    def sweep(self, needed: set[str]) -> None:
        """Unload and delete what is not needed: the registry keeps every version."""
        for name in self._engine.adapters:
            if name not in needed:
                self._engine.unload_adapter(name)
        for folder in self._folder.glob("*@*"):
            if folder.name not in self._engine.adapters:
                shutil.rmtree(folder)

    def save_served(self, served: Iterable[ServedVersion], before: Mapping[str, int]) -> None:
        """Save which versions are served now, and which were before, for the next start."""
        content = {
            "base": self._engine.model_sha256,
            "served": {one.policy: asdict(one) for one in served},
            "before": dict(before),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = self._served_file.with_suffix(".new")
        scratch.write_text(json.dumps(content))
        scratch.replace(self._served_file)

    def restore(self, policy: str) -> tuple[ServedVersion, int | None] | None:
        """Load the version of `policy` that was served last, and say which was before it; None if none
        was, or on another base.

        Raises VersionUnavailable where it cannot be loaded.
        """
        try:
            saved = json.loads(self._served_file.read_text())
            if saved["base"] != self._engine.model_sha256 or policy not in saved["served"]:
                return None
            served = ServedVersion(**saved["served"][policy])
            before = saved.get("before", {}).get(policy)
            if served.adapter is not None:
                folder = self._folder / served.adapter
                if adapter_sha256(folder) != served.sha256:
                    raise VersionUnavailable(f"{folder} is not what was registered")
                self._engine.load_adapter(served.adapter, folder)
        except FileNotFoundError:
            return None
        except VersionUnavailable:
            raise
        except Exception as error:  # as in `load`, or the list of what was served is broken
            raise VersionUnavailable(_told(error)) from error
        return served, before


def _told(error: Exception) -> str:
    expected = isinstance(error, EngineError | ValueError | OSError)
    return str(error) if expected else f"{type(error).__name__}: {error}"
