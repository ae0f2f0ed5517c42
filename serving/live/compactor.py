"""The learned compaction policy, kept on the registry's champion.

Starts with the shipped checkpoint. Whatever fails (registry unreachable, wrong hash, weights for
other features), the scorer loaded last is kept, and `problem` says why. Left out: challengers,
and training (learner/compactor).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from burnish.memory.compaction import POLICY, LearnedPolicy, Scorer, ScorerError
from burnish.serving.registry import ADAPTER_FILES, PolicyRegistry, RegistryError

log = logging.getLogger(__name__)

MIN_POLL_S = 2.0  # compactions are rare and need no fresher scorer


class LiveCompactor:
    """`policy` is what the memory store is given; its scorer is replaced under it."""

    def __init__(
        self, registry: PolicyRegistry, cache: Path, *, poll_s: float = 5.0, explore: float = 0.0
    ) -> None:
        self.policy = LearnedPolicy(explore=explore)
        self.problem: str | None = None
        self._registry, self._cache = registry, cache
        self._poll_s = max(poll_s, MIN_POLL_S)
        self._version: int | None = None  # version loaded last; None: the shipped one
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    @property
    def vital(self) -> asyncio.Task[None] | None:
        """The task without which no scorer is followed, once started."""
        return self._follower

    async def poll(self) -> None:
        """Read the champion once, and load it if it moved."""
        try:
            wanted = await asyncio.to_thread(self._registry.champion_version, POLICY)
            if wanted is not None and wanted != self._version:
                await asyncio.to_thread(self._registry.note_moves, POLICY)
                self.policy.scorer = await asyncio.to_thread(self._load, wanted)
                await asyncio.to_thread(self._sweep, wanted)
                self._version = wanted
                log.info("%s: deciding by version %d", POLICY, wanted)
            self.problem = None
        except (RegistryError, ScorerError, OSError) as error:
            if self.problem is None:
                log.warning("%s: %s (what is loaded decides on)", POLICY, error)
            self.problem = str(error)

    def _load(self, number: int) -> Scorer:
        version = self._registry.get(POLICY, number)
        folder = self._registry.fetch(version, self._cache)
        if folder is None:
            return Scorer.load()
        return Scorer.load(folder / ADAPTER_FILES[1], version.ref)

    def _sweep(self, number: int) -> None:
        """Delete what is loaded no more. The folder is this one's own: another's sweep would take
        a fetched version away before it is read."""
        for folder in self._cache.glob(f"{POLICY}@*"):
            if folder.name != f"{POLICY}@{number}":
                shutil.rmtree(folder, ignore_errors=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self.poll()
            except Exception as error:  # the task's top loop: what is loaded decides whatever fails
                if self.problem is None:
                    log.exception("%s: the registry's champion cannot be followed", POLICY)
                self.problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(self._poll_s)
