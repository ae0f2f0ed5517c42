"""ops/compose.yaml: what it says of itself, and its stores on a Docker Engine where one answers.

The whole way of a vote through it takes minutes: `make bench-compose`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from burnish.ops.bench.compose import learnt_from
from burnish.ops.bench.lib.containers import (
    STORES,
    ContainerError,
    Project,
    engine_version,
    image_mb,
)

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "ops" / "compose.yaml").read_text())["services"]
OFFICIAL = {
    "redis": "${REDIS_IMAGE:-redis:7}",
    "postgres": "${POSTGRES_IMAGE:-postgres:17}",
    "kafka": "${KAFKA_IMAGE:-apache/kafka:4.1.1}",
}


def test_the_stores_are_the_official_images_unless_a_variable_names_others():
    assert {name: SERVICES[name]["image"] for name in STORES} == OFFICIAL


def test_every_store_and_server_tells_whether_it_is_well():
    checked = {name for name, service in SERVICES.items() if "healthcheck" in service}
    assert checked == {*STORES, "mlflow", "serving"}


def test_only_the_api_is_published_beyond_the_server_itself():
    published = {
        name: port for name, service in SERVICES.items() for port in service.get("ports", ())
    }
    assert set(published) == {"serving", "mlflow"}
    assert published["mlflow"].startswith("127.0.0.1:")


def test_our_containers_can_write_their_volumes_only_and_have_no_privileges():
    ours = {name: service for name, service in SERVICES.items() if name not in STORES}
    assert ours
    for service in ours.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("secret", ["ops/.env", "ops/burnish.env"])
def test_files_with_secrets_get_into_no_commit_and_no_image(secret: str):
    asked = subprocess.run(["git", "check-ignore", "-q", secret], cwd=ROOT)
    assert asked.returncode == 0
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {secret, f"**/{Path(secret).name}"} & set(ignored)


@pytest.mark.parametrize(
    ("named", "ours"), [(["shop/a", "shop/b#1"], True), (["shop/a", "shop/z"], False), ([], False)]
)
def test_a_version_learnt_from_our_votes_if_it_names_no_others(named: list[str], ours: bool):
    assert learnt_from({"lineage": {"feedback_ids": named}}, ["a", "b", "c"]) is ours


# --- on a Docker Engine --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    if engine_version() is None:
        pytest.skip("no Docker Engine answers")
    made = Project("burnish-test")
    images = made.images()
    for store in STORES:
        try:
            image_mb(images[store])
        except ContainerError:
            pytest.skip(f"{images[store]}: images of ops/compose.yaml that are not here")
    made("down", "--volumes")
    yield made
    made("down", "--volumes")


@pytest.mark.timeout(600)
def test_the_stores_start_from_empty_volumes_and_keep_what_they_have(project: Project):
    project("up", "--detach", "--wait", *STORES)
    assert project.states() == dict.fromkeys(STORES, "healthy")
    databases = ["exec", "-T", "postgres", "psql", "-U", "burnish", "-Atc"]
    names = project(*databases, "select datname from pg_database").split()
    assert {"burnish", "mlflow"} <= set(names)
    project(*databases, "create table kept (word text); insert into kept values ('here')")
    project("exec", "-T", "redis", "redis-cli", "set", "word", "here")

    for store in STORES:
        project.kill(store)
    project("down")
    project("up", "--detach", "--wait", *STORES)
    assert project(*databases, "select word from kept").strip() == "here"
    assert project("exec", "-T", "redis", "redis-cli", "get", "word").strip() == "here"
