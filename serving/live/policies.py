"""The live side of policies: which version answers, and which adapters are resident.

A poll reads each policy's champion alias. A new champion is fetched, verified and loaded beside
the old one, then a pointer flips; requests that began on the old version hold a `VersionLease` on it and
finish there. Adapters stay resident while leased, while champion or previous, and as the most
recently pinned ones. Whatever fails (registry away, wrong hash, broken adapter), the version
loaded last serves on, and `problem` says why.
Left out: canary traffic (a challenger can be asked for by its version).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from burnish.serving.engine import Engine
from burnish.serving.live.adapters import Adapters, Served, VersionUnavailable
from burnish.serving.registry import (
    BaseMismatch,
    PolicyRegistry,
    PolicyVersion,
    RegistryError,
    UnknownVersion,
)

log = logging.getLogger(__name__)

_RELIST_S = 10.0  # how often to look for policies nobody named in the settings
_RETRY_S = 30.0  # how soon a broken champion is tried again


class UnknownModel(LookupError):
    """No policy or version of that name."""


class VersionLease:
    """A promise that one version stays resident until `release`, which may be called twice."""

    def __init__(self, served: Served, owner: LivePolicies):
        self.policy = served.policy
        self.version = served.version
        self.adapter = served.adapter
        self.ref = served.ref
        self._owner: LivePolicies | None = owner

    def release(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            owner._released(self.ref)


@dataclass
class _Line:
    """One policy as served here."""

    champion: Served | None = None
    previous: Served | None = None
    problem: str | None = None  # why the champion alias is not what is served
    swapped_at: float | None = None
    swaps: int = 0
    broken: dict[int, float] = field(default_factory=dict)  # version -> when to try it again


@dataclass(frozen=True)
class LiveState:
    """What `/v1/policies` and `/readyz` say of one policy."""

    policy: str
    champion: int | None
    previous: int | None
    resident: tuple[int, ...]
    problem: str | None
    swapped_at: float | None
    swaps: int


class LivePolicies:
    """Serves `names` and whatever other policies the registry holds."""

    def __init__(
        self,
        engine: Engine,
        registry: PolicyRegistry,
        *,
        names: Sequence[str],
        model_path: Path,
        cache: Path,
        poll_s: float = 0.5,
        pinned: int = 8,
    ):
        self._engine = engine
        self._registry = registry
        self._names = tuple(names)
        self._model_path = model_path
        self._adapters = Adapters(engine, registry, cache)
        self._poll_s = poll_s
        self._pinned_cap = pinned
        self._lines: dict[str, _Line] = {}
        self._leases: dict[str, int] = {}
        self._pinned: OrderedDict[str, Served] = OrderedDict()
        self._loading = asyncio.Lock()
        self._polling = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._unswept = False
        self._based: set[str] = set()
        self._relist_at = 0.0
        self.problem: str | None = None  # why the registry cannot be read

    # Requests

    async def acquire(self, model: str) -> VersionLease:
        """The version `model` names: a policy's champion, or `policy@version`, loaded if need be.

        Raises UnknownModel, VersionUnavailable.
        """
        policy, _, number = model.partition("@")
        if not number:
            line = self._lines.get(policy)
            if line is None:
                raise UnknownModel(model)
            if line.champion is None:
                raise VersionUnavailable(line.problem or self.problem or "no version is loaded yet")
            return self._lease(line.champion)
        if not number.isdecimal() or str(int(number)) != number:
            raise UnknownModel(model)
        served = self._resident(policy, int(number))
        return self._lease(served) if served else await self._acquire_pinned(policy, int(number))

    def models(self) -> list[Served]:
        """The champion of each policy."""
        return [line.champion for line in self._lines.values() if line.champion]

    def state(self) -> list[LiveState]:
        return [
            LiveState(
                policy=name,
                champion=line.champion.version if line.champion else None,
                previous=line.previous.version if line.previous else None,
                resident=tuple(sorted(s.version for s in self._all_resident() if s.policy == name)),
                problem=line.problem or self.problem,
                swapped_at=line.swapped_at,
                swaps=line.swaps,
            )
            for name, line in sorted(self._lines.items())
        ]

    # Following the registry

    async def start(self) -> None:
        """Serve what was served last, or else what the registry says; then follow the registry.

        So a restart waits neither for the registry nor for MLflow's import. Raises BaseMismatch:
        with another base model under it no version of a policy would fit.
        """
        for name in self._names:
            line = self._lines.setdefault(name, _Line())
            try:
                line.champion = await asyncio.to_thread(self._adapters.take_up, name)
            except VersionUnavailable as error:
                log.warning("%s: what was served last cannot be taken up: %s", name, error)
            if line.champion is not None:
                line.swapped_at = time.time()
                log.info("%s: serving version %d as before", name, line.champion.version)
        if any(self._lines[name].champion is None for name in self._names):
            await self.poll()
        self._sweep_soon()
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        tasks = [task for task in (self._follower, self._sweeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def poll(self) -> None:
        """Look once at every policy's champion, and swap where it moved."""
        try:
            # One at a time: two that see the same move would both flip, and the second would
            # take the champion itself for the version before.
            async with self._polling:
                for name in await self._policies():
                    await self._poll_one(name, self._lines.setdefault(name, _Line()))
            if self.problem:
                log.info("the registry is back")
            self.problem = None
        except RegistryError as error:
            if isinstance(error, BaseMismatch):
                raise
            if self.problem is None:
                log.warning("registry: %s (what is loaded serves on)", error)
            self.problem = f"registry: {error}"

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.poll()
            except (BaseMismatch, OSError) as error:  # a disk that is full, say
                if self.problem is None:
                    log.error("policies: %s", error)
                self.problem = str(error)

    async def _policies(self) -> list[str]:
        for name in self._names:
            if name not in self._based:
                sha256 = self._engine.model_sha256
                await asyncio.to_thread(self._registry.ensure_base, name, self._model_path, sha256)
                self._based.add(name)
        if time.monotonic() >= self._relist_at:
            for name in await asyncio.to_thread(self._registry.policies):
                self._lines.setdefault(name, _Line())
            self._relist_at = time.monotonic() + _RELIST_S
        return list(dict.fromkeys((*self._names, *self._lines)))

    async def _poll_one(self, name: str, line: _Line) -> None:
        wanted = await asyncio.to_thread(self._registry.champion_version, name)
        if wanted is None or (line.champion and wanted == line.champion.version):
            line.problem = None
            return
        if line.broken.get(wanted, 0.0) > time.monotonic():
            return
        await asyncio.to_thread(self._registry.note_moves, name)
        try:
            fresh = await self._load(await asyncio.to_thread(self._registry.get, name, wanted))
        except (RegistryError, VersionUnavailable) as error:
            line.broken[wanted] = time.monotonic() + _RETRY_S
            line.problem = f"version {wanted} is champion but cannot be served: {error}"
            log.error("%s: %s", name, line.problem)
            return
        self._flip(line, fresh)
        await asyncio.to_thread(self._adapters.note, self.models())

    def _flip(self, line: _Line, fresh: Served) -> None:
        """The swap: requests from here on get `fresh`. No await, so nobody sees half of it."""
        if line.champion is not None:
            line.swaps += 1
            log.info("%s: now serving version %d", fresh.policy, fresh.version)
        line.previous, line.champion = line.champion, fresh
        line.swapped_at, line.problem = time.time(), None
        line.broken.clear()
        self._sweep_soon()

    # Adapters

    async def _acquire_pinned(self, policy: str, number: int) -> VersionLease:
        if policy not in self._lines:
            raise UnknownModel(f"{policy}@{number}")
        try:
            version = await asyncio.to_thread(self._registry.get, policy, number)
            served = await self._load(version)
        except UnknownVersion as error:
            raise UnknownModel(f"{policy}@{number}") from error
        except RegistryError as error:
            raise VersionUnavailable(f"{policy}@{number}: {error}") from error
        self._pinned[served.ref] = served
        self._pinned.move_to_end(served.ref)
        lease = self._lease(served)
        self._sweep_soon()
        return lease

    async def _load(self, version: PolicyVersion) -> Served:
        async with self._loading:
            return await asyncio.to_thread(self._adapters.load, version)

    def _resident(self, policy: str, number: int) -> Served | None:
        for served in self._all_resident():
            if (served.policy, served.version) == (policy, number):
                if served.ref in self._pinned:
                    self._pinned.move_to_end(served.ref)
                return served
        return None

    def _all_resident(self) -> set[Served]:
        kept = {s for line in self._lines.values() for s in (line.champion, line.previous) if s}
        return kept | set(self._pinned.values())

    def _lease(self, served: Served) -> VersionLease:
        self._leases[served.ref] = self._leases.get(served.ref, 0) + 1
        return VersionLease(served, self)

    def _released(self, ref: str) -> None:
        self._leases[ref] -= 1
        if not self._leases[ref]:
            del self._leases[ref]
            self._sweep_soon()

    def _sweep_soon(self) -> None:
        self._unswept = True
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while self._unswept:
            self._unswept = False
            async with self._loading:
                while len(self._pinned) > self._pinned_cap:
                    self._pinned.popitem(last=False)
                # What becomes needed meanwhile is either in this set or waits to be loaded.
                needed = {one.ref for one in self._all_resident()} | set(self._leases)
                await asyncio.to_thread(self._adapters.sweep, needed)
