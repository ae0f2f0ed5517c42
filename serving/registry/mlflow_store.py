"""MLflow as the registry's store, with MLflow's errors made one of ours.

Everything here is in MLflow's words (registered models, model versions, tags, runs); what they
mean to us is in policy_registry.py. Left out: stages, webhooks, flavours. Importing MLflow takes
seconds, hence the late imports.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from burnish.feedback.masking import masked
from burnish.serving.registry.errors import RegistryError, UnknownVersion
from burnish.serving.registry.model_store import RegisteredModel

_EXPERIMENT = "burnish"
_TAG_LIMIT = 4500  # characters; MLflow's databases cut at 5000
_IN_ARTIFACTS = "(in the run's artifacts)"
_NO_ALIAS = re.compile(r"alias .* not found", re.IGNORECASE)
# A server that is away must be noticed in seconds; MLflow's own timeouts are minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


# Of data sets, of which a registry has none: 75 MB and a second.
_NOT_FOR_REGISTRIES = ("pandas", "pyarrow", "scipy")


@cache
def _mlflow() -> Any:
    """The package, imported as where only mlflow-skinny is installed. What else asks for pandas gets it."""
    modules = cast("dict[str, Any]", sys.modules)
    hidden = [name for name in _NOT_FOR_REGISTRIES if name not in modules]
    modules |= dict.fromkeys(hidden)  # None: importing it fails
    try:
        import mlflow.artifacts
    finally:
        for name in hidden:
            del modules[name]
    return mlflow


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Turn whatever MLflow, its database or its server throws into a RegistryError."""
    import requests
    import sqlalchemy.exc

    try:
        yield
    except _mlflow().exceptions.MlflowException as error:
        missing = error.error_code == "RESOURCE_DOES_NOT_EXIST" or _NO_ALIAS.search(str(error))
        kind = UnknownVersion if missing else RegistryError
        raise kind(f"{what}: {_first_line(error)}") from error
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise RegistryError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Without the password that the registry's address may hold."""
    return masked(next(iter(str(error).splitlines()), type(error).__name__))


class MlflowStore:
    """Registered models at `uri`, which is a database or a server. Calls block."""

    def __init__(self, uri: str, artifact_root: str | None = None):
        self.uri = uri
        self._artifact_root = artifact_root or _artifacts_beside(uri)
        self._mlflow_client: Any = None
        self._experiment: str | None = None

    @property
    def _client(self) -> Any:
        if self._mlflow_client is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            if self.uri.startswith("sqlite:///"):
                Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._mlflow_client = _mlflow().MlflowClient(
                tracking_uri=self.uri, registry_uri=self.uri
            )
        return self._mlflow_client

    def experiment_id(self) -> str:
        """The experiment that holds our runs; made, with the database, where missing."""
        if self._experiment is None:
            with mlflow_errors("opening the registry"):
                found = self._client.get_experiment_by_name(_EXPERIMENT)
                if found is None:
                    self._experiment = self._client.create_experiment(
                        _EXPERIMENT, artifact_location=self._artifact_root
                    )
                else:
                    self._experiment = found.experiment_id
        return str(self._experiment)

    def create_model(self, name: str, tags: Mapping[str, str]) -> bool:
        """False when it exists already."""
        with mlflow_errors(f"creating '{name}'"):
            try:
                self._client.create_registered_model(name, tags=dict(tags))
            except _mlflow().exceptions.MlflowException as error:
                if error.error_code == "RESOURCE_ALREADY_EXISTS":
                    return False
                raise
        return True

    def create_version(
        self,
        name: str,
        documents: Mapping[str, Mapping[str, Any]],
        folder: Path | None,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
    ) -> int:
        """A run with the documents, metrics and folder as artifacts, and a version pointing at it."""
        experiment = self.experiment_id()
        with mlflow_errors(f"registering a version of '{name}'"):
            run = self._client.create_run(experiment, run_name=f"{name} {tags.get('kind', '')}")
            run_id = run.info.run_id
            for file, content in documents.items():
                self._client.log_dict(run_id, dict(content), file)
            if folder is not None:
                self._client.log_artifacts(run_id, str(folder), "adapter")
            for key, value in metrics.items():
                self._client.log_metric(run_id, key, value)
            self._client.set_terminated(run_id)
            version = self._client.create_model_version(
                name,
                source=f"runs:/{run_id}/adapter" if folder is not None else f"runs:/{run_id}",
                run_id=run_id,
                tags={**tags, **document_tags(documents), "metrics": json.dumps(dict(metrics))},
            )
        return int(version.version)

    def document(self, found: Any, file: str, fetch: bool = True) -> dict[str, Any] | None:
        """A JSON document of a version: from its tag, or where it was too long the artifacts."""
        tag = found.tags.get(_tag_of(file))
        if tag is None or (tag == _IN_ARTIFACTS and not fetch):
            return None
        if tag != _IN_ARTIFACTS:
            return json.loads(tag)
        with tempfile.TemporaryDirectory() as scratch, mlflow_errors(f"reading {file}"):
            return json.loads(
                Path(self._client.download_artifacts(found.run_id, file, scratch)).read_text()
            )

    def model(self, name: str) -> RegisteredModel:
        with mlflow_errors(f"reading '{name}'"):
            found = self._client.get_registered_model(name)
        aliases = {alias: int(version) for alias, version in found.aliases.items()}
        return RegisteredModel(aliases, dict(found.tags))

    def version(self, name: str, version: int) -> Any:
        with mlflow_errors(f"reading '{name}' {version}"):
            return self._client.get_model_version(name, str(version))

    def versions(self, name: str, latest: int | None = None) -> list[Any]:
        quoted = name.replace("'", "")
        if latest is None:
            return self._all(self._client.search_model_versions, f"name = '{quoted}'")
        with mlflow_errors(f"reading '{name}'"):
            newest_first = ["version_number DESC"]
            return list(
                self._client.search_model_versions(
                    f"name = '{quoted}'", max_results=latest, order_by=newest_first
                )
            )

    def models(self, tag: str) -> list[str]:
        found = self._all(self._client.search_registered_models, f"tags.`{tag}` LIKE '%'")
        return sorted(model.name for model in found)

    def set_version_tag(self, name: str, version: int, key: str, value: str) -> None:
        with mlflow_errors(f"tagging '{name}' {version}"):
            self._client.set_model_version_tag(name, str(version), key, value)

    def alias(self, name: str, alias: str) -> int | None:
        """The version an alias names: one indexed read. None without alias or model."""
        try:
            with mlflow_errors(f"reading '{name}'@{alias}"):
                return int(self._client.get_model_version_by_alias(name, alias).version)
        except UnknownVersion:
            return None

    def set_alias(self, name: str, alias: str, version: int) -> None:
        with mlflow_errors(f"moving '{name}'@{alias}"):
            self._client.set_registered_model_alias(name, alias, str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        with mlflow_errors(f"removing '{name}'@{alias}"):
            self._client.delete_registered_model_alias(name, alias)

    def set_tag(self, name: str, key: str, value: str) -> None:
        with mlflow_errors(f"tagging '{name}'"):
            self._client.set_registered_model_tag(name, key, value)

    def drop_tag(self, name: str, key: str) -> None:
        with mlflow_errors(f"untagging '{name}'"):
            self._client.delete_registered_model_tag(name, key)

    def download(self, name: str, version: int, files: tuple[str, ...], into: Path) -> None:
        """Copy the named files of a version's folder into `into`, and nothing else."""
        with mlflow_errors(f"fetching '{name}' {version}"):
            source = self._client.get_model_version_download_uri(name, str(version))
            with tempfile.TemporaryDirectory(dir=into) as scratch:
                for file in files:
                    found = _mlflow().artifacts.download_artifacts(
                        artifact_uri=f"{source}/{file}", dst_path=scratch, tracking_uri=self.uri
                    )
                    shutil.move(found, into / file)

    def delete_files(self, name: str, version: int) -> None:
        """Delete a version's folder, if it is there."""
        with mlflow_errors(f"deleting the files of '{name}' {version}"):
            source = self._client.get_model_version_download_uri(name, str(version))
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            get_artifact_repository(source, tracking_uri=self.uri).delete_artifacts()

    def _all(self, search: Callable[..., Any], query: str) -> list[Any]:
        with mlflow_errors("searching the registry"):
            page = search(query, max_results=200)
            found = list(page)
            while page.token:
                page = search(query, max_results=200, page_token=page.token)
                found += page
        return found


def document_tags(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Documents as tags where they fit, which spares their readers a download."""
    tags = {_tag_of(file): json.dumps(content) for file, content in documents.items()}
    return {
        key: value if len(value) <= _TAG_LIMIT else _IN_ARTIFACTS for key, value in tags.items()
    }


def _tag_of(file: str) -> str:
    return file.removesuffix(".json")


def _artifacts_beside(uri: str) -> str | None:
    """Where artifacts of a SQLite registry go: next to the database, not in the working folder."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "artifacts").as_uri()
