"""Adapters come from whatever store MLflow is given, and are verified: a shared folder, S3, Google
Cloud Storage. (MLflow's own artifact proxy is one of the backends of test_contract.py.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from burnish.serving.registry import HashMismatch, PolicyRegistry, RegistryError, signing_keys

from tests.conftest import free_port

from .gcs_standin import GcsStandin

ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Store:
    """An artifact root, and what others may do to what lies there."""

    root: str
    tamper: Callable[[], None]  # change the weights
    close: Callable[[], None]  # nobody reaches it any more


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsStandin]:
    pytest.importorskip("google.cloud.storage", reason="an optional extra not installed: gcs")
    from google.cloud.storage.retry import DEFAULT_RETRY

    server = GcsStandin("adapters")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setattr(DEFAULT_RETRY, "_timeout", 0.5)  # two minutes
    yield server
    server.stop()


@pytest.fixture(params=["folder", "s3", "gcs"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    if request.param == "folder":
        folder = tmp_path / "shared"

        def tamper() -> None:
            (file,) = folder.rglob(ADAPTER)
            file.write_bytes(b"evil")

        def close() -> None:
            folder.rename(tmp_path / "elsewhere")

        yield Store(folder.as_uri(), tamper, close)
        return
    if request.param == "gcs":
        blobs: GcsStandin = request.getfixturevalue("gcs")

        def tamper_blob() -> None:
            (name,) = (name for name in blobs.objects if name.endswith(ADAPTER))
            blobs.objects[name] = b"evil"

        yield Store("gs://adapters/policies", tamper_blob, blobs.stop)
        return
    boto3 = pytest.importorskip("boto3", reason="an optional extra not installed: s3")
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "burnish")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3: Any = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    bucket = f"adapters-{port}"
    s3.create_bucket(Bucket=bucket)

    def tamper_object() -> None:
        listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
        (key,) = [each["Key"] for each in listed if each["Key"].endswith(ADAPTER)]
        s3.put_object(Bucket=bucket, Key=key, Body=b"evil")

    closed = []

    def close() -> None:
        if not closed:
            closed.append(True)
            server.stop()

    yield Store(f"s3://{bucket}/policies", tamper_object, close)
    close()


@pytest.fixture
def opened(store: Store, registry_uri: str, tmp_path: Path) -> Callable[[], PolicyRegistry]:
    """Another process's registry on the same database, which alone knows where artifacts lie."""

    def opened(root: str | None = None) -> PolicyRegistry:
        return PolicyRegistry(registry_uri, root, keys=signing_keys(tmp_path))

    opened(store.root).ensure_base("default", "/models/ember", "b" * 64)
    return opened


def test_what_a_learner_puts_there_each_replica_fetches(
    opened: Callable[[], PolicyRegistry], make_adapter: Callable[..., Path], tmp_path: Path
):
    made = opened().register("default", make_adapter(), parent=1, lineage={})
    for replica in ("a", "b"):
        registry = opened()
        folder = registry.fetch(registry.get("default", made.version), tmp_path / replica)
        assert folder is not None
        assert (folder / ADAPTER).read_bytes() == b"weightsadapter"


def test_what_was_changed_there_is_refused(
    opened: Callable[[], PolicyRegistry], make_adapter: Callable[..., Path], tmp_path: Path,
    store: Store,
):  # fmt: skip
    registry = opened()
    made = registry.register("default", make_adapter(), parent=1, lineage={})
    store.tamper()
    with pytest.raises(HashMismatch):
        registry.fetch(made, tmp_path / "a")


def test_a_store_that_is_away_is_one_clear_error(
    opened: Callable[[], PolicyRegistry], make_adapter: Callable[..., Path], tmp_path: Path,
    store: Store,
):  # fmt: skip
    registry = opened()
    made = registry.register("default", make_adapter(), parent=1, lineage={})
    store.close()
    with pytest.raises(RegistryError) as caught:
        registry.fetch(made, tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert "fetching 'default' 2" in str(caught.value)


def test_weights_of_many_chunks_go_to_google_and_come_back_whole(
    gcs: GcsStandin,
    registry_uri: str,
    make_adapter: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Above 8 MiB its client uploads in chunks, and below it in one request."""
    for which in ("UPLOAD", "DOWNLOAD"):
        monkeypatch.setenv(f"MLFLOW_GCS_{which}_CHUNK_SIZE", str(4 * 2**20))
    weights = bytes(range(256)) * (9 * 2**20 // 256)
    registry = PolicyRegistry(registry_uri, "gs://adapters/policies", keys=signing_keys(tmp_path))
    registry.ensure_base("default", "/models/ember", "b" * 64)
    made = registry.register("default", make_adapter(weights=weights), parent=1, lineage={})
    assert gcs.chunks == 3
    folder = registry.fetch(made, tmp_path / "a")
    assert folder is not None
    assert (folder / ADAPTER).read_bytes() == weights + b"adapter"
