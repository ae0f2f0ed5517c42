"""Several servers on one registry: all of them follow the alias, also one that was away, and say so."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from burnish.serving.engine import StubEngine
from burnish.serving.registry import PolicyRegistry, signing_keys
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually

REPLICAS = 3
PATIENCE_S = 20.0


@pytest.fixture
def start(
    serve: Callable[..., Running], settings: ServingSettings, registry_uri: str, tmp_path: Path
) -> Callable[[int], Running]:
    """A replica with a data folder and a registry's client of its own; `poll_s` as by default."""

    def start(number: int) -> Running:
        own = {"data_dir": tmp_path / f"replica-{number}", "poll_s": 0.5}
        engine = StubEngine("Hello there.")
        registry = PolicyRegistry(registry_uri, who="replica", keys=signing_keys(tmp_path))
        return serve(settings.model_copy(update=own), engine, registry)

    return start


def serving(replica: Running) -> tuple[str, str, str]:
    """The version by an answer, by /readyz and by /metrics."""
    answered = replica.say("Hi").system_fingerprint
    ready = replica.http("GET", "/readyz").json()["policies"]["default"]
    (line,) = [
        line
        for line in replica.http("GET", "/metrics").text.splitlines()
        if line.startswith("burnish_policy_version{")
    ]
    return answered, f"default@{ready}", f"default@{float(line.split()[-1]):.0f}"


def all_serve(replicas: list[Running], number: int) -> bool:
    wanted = (f"default@{number}",) * 3
    return all(serving(replica) == wanted for replica in replicas)


def test_every_replica_follows_the_alias(
    start: Callable[[int], Running], registry: PolicyRegistry, make_adapter: Callable[..., Path]
):
    replicas = [start(number) for number in range(REPLICAS)]
    assert all_serve(replicas, 1)
    for _ in range(2):
        version = registry.register(
            "default", make_adapter(f"a{time.monotonic_ns()}"), parent=1, lineage={}
        )
        registry.promote("default", version.version)
        eventually(lambda n=version.version: all_serve(replicas, n), PATIENCE_S)
    # One that was away while the alias moved comes back to what the others serve.
    replicas.pop().stop()
    registry.promote("default", 2)
    back = start(REPLICAS - 1)
    eventually(lambda: all_serve([*replicas, back], 2), PATIENCE_S)
