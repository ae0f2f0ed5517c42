"""Following the registry ends for nothing that a registry may hold, and each follower sweeps its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from burnish.memory.compaction import POLICY
from burnish.serving.engine import StubEngine
from burnish.serving.live import LiveCompactor
from burnish.serving.registry import StubRegistry
from burnish.serving.settings import ServingSettings

from tests.serving.conftest import Running
from tests.waiting import eventually


class Strange(StubRegistry):
    """Answers with what nobody foresaw, while `strange`."""

    strange = False

    def champion_version(self, policy: str) -> int | None:
        if self.strange:
            raise ValueError("no number")
        return super().champion_version(policy)


def test_a_registry_that_answers_nonsense_ends_no_follower(
    serve: Callable[..., Running], settings: ServingSettings
) -> None:
    registry = Strange()
    live = serve(settings, StubEngine("Hello there."), registry)
    registry.strange = True
    policies, compactor = live.service.policies, live.service.compactor
    eventually(lambda: policies.problem == "ValueError: no number")
    eventually(lambda: compactor.problem == "ValueError: no number")
    version = registry.add()
    registry.strange = False
    registry.promote("default", version)
    eventually(lambda: policies.models()[0].version == version)
    # Cleared once every policy was looked at, a moment after the first one's swap.
    eventually(lambda: policies.problem is None)
    eventually(lambda: compactor.problem is None)


def test_the_compactor_sweeps_what_it_loads_no_more_and_nothing_else(tmp_path: Path) -> None:
    for name in (f"{POLICY}@7", "default@7"):
        (tmp_path / name).mkdir()
    live = LiveCompactor(StubRegistry(), tmp_path)
    live._sweep(8)
    assert [folder.name for folder in tmp_path.iterdir()] == ["default@7"]


def test_followers_have_folders_of_their_own(running: Running) -> None:
    policies = running.service.policies._adapters._folder
    assert running.service.compactor._cache not in (policies, policies.parent)
