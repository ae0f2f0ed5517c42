"""What the policy registry needs of a model registry, in MLflow's words.

MLflow behind it is mlflow_store.py, memory behind it stub.py. Every method raises RegistryError when
the store cannot be reached, and UnknownVersion for a model, version or alias that is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RegisteredModel:
    """What is told of a model beside its versions."""

    aliases: Mapping[str, int]
    tags: Mapping[str, str]


class ModelVersion(Protocol):
    """A version of a registered model, as MLflow returns it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int | str: ...

    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def creation_timestamp(self) -> int | None:
        """Milliseconds since 1970."""
        ...


class ModelStore(Protocol):
    """Registered models with versions, aliases, tags and files."""

    def create_model(self, name: str, tags: Mapping[str, str]) -> bool:
        """False when it exists already."""
        ...

    def create_version(
        self,
        name: str,
        documents: Mapping[str, Mapping[str, Any]],
        folder: Path | None,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> int:
        """A new version with JSON documents, the adapter's folder, tags and metrics; its number."""
        ...

    def document(self, found: Any, file: str, fetch: bool = True) -> dict[str, Any] | None:
        """A JSON document of a version; None if there is none, or it is long and `fetch` is false."""
        ...

    def model(self, name: str) -> RegisteredModel: ...

    def version(self, name: str, version: int) -> ModelVersion: ...

    def versions(self, name: str, latest: int | None = None) -> Sequence[ModelVersion]:
        """All of them, or the `latest` so many."""
        ...

    def models(self, tag: str) -> list[str]:
        """Names of the models that carry `tag`."""
        ...

    def set_version_tag(self, name: str, version: int, key: str, value: str) -> None: ...

    def alias(self, name: str, alias: str) -> int | None:
        """The version an alias names. None without alias or model."""
        ...

    def set_alias(self, name: str, alias: str, version: int) -> None: ...

    def drop_alias(self, name: str, alias: str) -> None: ...

    def set_tag(self, name: str, key: str, value: str) -> None: ...

    def drop_tag(self, name: str, key: str) -> None: ...

    def delete_files(self, name: str, version: int) -> None:
        """Delete a version's folder, if it is there."""
        ...

    def download(self, name: str, version: int, files: tuple[str, ...], into: Path) -> None:
        """Copy the named files of a version's folder into `into`, and nothing else."""
        ...
