"""The live side of policies: which version answers, and which adapters are resident.

A poll reads each policy's champion alias. A new champion is fetched, verified and loaded beside
the old one, then swapped in; requests that began on the old version hold a `VersionLease` on it and
finish there. Adapters stay resident while leased, while champion or previous, and as the most
recently pinned ones. Whatever fails (registry unreachable, wrong hash, broken adapter), the version
loaded last is still served, and `problem` says why. The challenger of a canary is followed in the same way, and
answers the share of end users that the registry says (canary.py), or `canary_share` where nobody leads one. Of
everybody else's requests the base answers `explore`, so that people go on judging its many ways beside the champion's.
Left out: what comes of a canary (learner/canary).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.trail import Trail
from burnish.serving.engine import Engine, EngineError
from burnish.serving.live import canary as arms
from burnish.serving.live.adapters import Adapters, ServedVersion
from burnish.serving.live.errors import UnknownModel, VersionUnavailable
from burnish.serving.live.leases import Leases, VersionLease
from burnish.serving.live.status import PolicyStatus, ServedPolicy
from burnish.serving.registry import (
    BASE_VERSION,
    BaseMismatch,
    Canary,
    PolicyRegistry,
    PolicyVersion,
    RegistryError,
    UnknownVersion,
)

log = logging.getLogger(__name__)

_RELIST_S = 10.0  # how often to look for policies that the settings do not name
_RETRY_S = 30.0  # how soon a broken champion is tried again
_CANARY_S = 1.0  # how often to look for challengers and their share


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
        canary_share: float = 0.0,
        explore: float = 0.0,
        trail: Trail | None = None,
    ):
        self._engine = engine
        self._registry = registry
        self._names = tuple(names)
        self._model_path = model_path
        self._adapters = Adapters(engine, registry, cache)
        self._poll_s = poll_s
        self._pinned_cap = pinned
        self._canary_share = canary_share
        self._explore = explore
        self.draw: Callable[[], float] = random.random  # whether a request is explored
        self._trail = trail
        self._policies: dict[str, ServedPolicy] = {}
        self._leases = Leases(self._sweep_soon)
        self._pinned: OrderedDict[str, ServedVersion] = OrderedDict()
        self._loading = asyncio.Lock()
        self._polling = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._sweep_wanted = False
        self._with_base: set[str] = set()
        self._relist_at = 0.0
        self._canaries_at = 0.0
        self.problem: str | None = None  # why the registry cannot be read
        self.has_looked = False  # at the aliases, since the start; also in vain

    # Requests

    async def acquire(self, model: str, user: str | None = None) -> VersionLease:
        """The version `model` names: the one that a policy answers this end user with, or
        `policy@version`, loaded if need be. `user`, or a session in its place, is told apart from those of
        other tenants.

        Raises UnknownModel, VersionUnavailable.
        """
        policy, _, number = model.partition("@")
        if not number:
            served = self._policies.get(policy)
            if served is None:
                raise UnknownModel(model)
            if served.champion is None:
                raise VersionUnavailable(
                    served.problem or self.problem or "no version is loaded yet"
                )
            return self._grant(served, served.champion, user)
        if not number.isdecimal() or str(int(number)) != number:
            raise UnknownModel(model)
        resident = self._resident(policy, int(number))
        if resident is not None:
            return self._leases.grant(resident)
        return await self._acquire_pinned(policy, int(number))

    def _grant(
        self, served: ServedPolicy, champion: ServedVersion, user: str | None
    ) -> VersionLease:
        """The champion, or where this user is in its canary the challenger; now and then the base, where no
        canary has them."""
        challenger, canary, assigned = served.challenger, served.canary, None
        if challenger is not None and canary is not None:
            assigned = arms.assign(canary.salt, user, canary.share, challenger.version)
            if assigned is not None and assigned.arm == "challenger":
                return self._leases.grant(challenger, "challenger", assigned)
        if assigned is None and champion.adapter is not None and self.draw() < self._explore:
            return self._leases.grant(ServedVersion(champion.policy, BASE_VERSION), "base")
        return self._leases.grant(champion, "champion", assigned)

    def models(self) -> list[ServedVersion]:
        """The champion of each policy."""
        return [served.champion for served in self._policies.values() if served.champion]

    @property
    def leased(self) -> set[str]:
        """Versions that requests use now, as `policy@version`."""
        return self._leases.refs

    def status(self) -> list[PolicyStatus]:
        resident = self._all_resident()
        return [
            served.status(
                name, tuple(sorted(v.version for v in resident if v.policy == name)), self.problem
            )
            for name, served in sorted(self._policies.items())
        ]

    # Following the registry

    async def start(self) -> None:
        """Serve what was served last, or else the registry's champions; then follow the registry.

        So a restart waits neither for the registry nor for MLflow's import. Raises BaseMismatch:
        with another base model under it no version of a policy would fit.
        """
        for name in self._names:
            served = self._policies.setdefault(name, ServedPolicy())
            try:
                restored = await asyncio.to_thread(self._adapters.restore, name)
                if restored is not None:
                    served.champion, served.before = restored
            except VersionUnavailable as error:
                log.warning("%s: what was served last cannot be restored: %s", name, error)
            if served.champion is not None:
                served.swapped_at = time.time()
                log.info("%s: serving version %d as before", name, served.champion.version)
        if any(self._policies[name].champion is None for name in self._names):
            await self.poll()
        self._sweep_soon()
        self._follower = asyncio.create_task(self._follow())

    async def first_look(self, patience_s: float) -> None:
        """Wait for the first look at the aliases, since a champion may have moved meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.has_looked:  # noqa: ASYNC110 - once, at the start
                    await asyncio.sleep(0.02)

    async def stop(self) -> None:
        tasks = [task for task in (self._follower, self._sweeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def vital(self) -> asyncio.Task[None] | None:
        """The task without which no champion is followed, once started."""
        return self._follower

    async def poll(self, *, canaries: bool = False) -> None:
        """Look once at every policy's champion, and swap where it moved; at challengers every second, or now."""
        try:
            # One at a time: two that see the same move would both swap, and the second would
            # take the champion itself for the previous version.
            async with self._polling:
                canaries_too = canaries or time.monotonic() >= self._canaries_at
                for name in await self._names_to_poll():
                    served = self._policies.setdefault(name, ServedPolicy())
                    await self._poll_one(name, served)
                    if canaries_too:
                        await self._poll_challenger(name, served)
                if canaries_too:
                    self._canaries_at = time.monotonic() + _CANARY_S
            if self.problem:
                log.info("the registry is back")
            self.problem = None
            self.has_looked = True
        except RegistryError as error:
            if isinstance(error, BaseMismatch):
                raise
            self.has_looked = True
            if self.problem is None:
                log.warning("registry: %s (what is loaded serves on)", error)
            self.problem = f"registry: {error}"

    async def _follow(self) -> None:
        while True:
            if self.has_looked:
                await asyncio.sleep(self._poll_s)
            try:
                await self.poll()
            except Exception as error:
                # The task's top loop: a full disk, or whatever a registry holds, must not end it.
                expected = isinstance(error, BaseMismatch | OSError)
                if self.problem is None:
                    log.error("policies: %s", error, exc_info=not expected)
                self.problem = str(error) if expected else f"{type(error).__name__}: {error}"
                self.has_looked = True

    async def _names_to_poll(self) -> list[str]:
        for name in self._names:
            # What is served was registered: if it is no more, that is for a person to mend.
            if name not in self._with_base and self._policies[name].champion is None:
                sha256 = self._engine.model_sha256
                await asyncio.to_thread(self._registry.ensure_base, name, self._model_path, sha256)
                self._with_base.add(name)
        if time.monotonic() >= self._relist_at:
            for name in await asyncio.to_thread(self._registry.policies):
                self._policies.setdefault(name, ServedPolicy())
            self._relist_at = time.monotonic() + _RELIST_S
        return list(dict.fromkeys((*self._names, *self._policies)))

    async def _poll_one(self, name: str, served: ServedPolicy) -> None:
        wanted = await asyncio.to_thread(self._registry.champion_version, name)
        if wanted is None:
            if served.problem is None:
                served.problem = await asyncio.to_thread(self._why_no_champion, name, served)
                log.error("%s: %s", name, served.problem)
            return
        if served.champion and wanted == served.champion.version:
            served.problem = None
            return
        if served.broken.get(wanted, 0.0) > time.monotonic():
            return
        began = time.time()
        await asyncio.to_thread(self._registry.note_moves, name)
        try:
            version = await asyncio.to_thread(self._registry.get, name, wanted)
            fresh = await self._load(version)
        except (RegistryError, VersionUnavailable) as error:
            served.broken[wanted] = time.monotonic() + _RETRY_S
            served.problem = f"version {wanted} is champion but cannot be served: {error}"
            log.error("%s: %s", name, served.problem)
            return
        if served.champion is not None:
            log.info("%s: now serving version %d", name, wanted)
        served.swap(fresh)
        self._sweep_soon()
        before = {n: s.before for n, s in self._policies.items() if s.before is not None}
        await asyncio.to_thread(self._adapters.save_served, self.models(), before)
        if tracing.is_on():
            await asyncio.to_thread(self._trace_swap, version, began)

    async def _poll_challenger(self, name: str, served: ServedPolicy) -> None:
        """Have the challenger answer its share, if there is one that can be served."""
        canary = await asyncio.to_thread(self._canary, name)
        if canary is not None and served.champion and canary.version == served.champion.version:
            canary = None  # promoted, and its alias left behind
        if served.challenger is not None and (
            canary is None or canary.version != served.challenger.version
        ):
            served.challenger = served.canary = None
            self._sweep_soon()
        if canary is None or served.broken.get(canary.version, 0.0) > time.monotonic():
            return
        if served.challenger is None:
            try:
                version = await asyncio.to_thread(self._registry.get, name, canary.version)
                served.challenger = await self._load(version)
            except (RegistryError, VersionUnavailable) as error:
                served.broken[canary.version] = time.monotonic() + _RETRY_S
                log.error("%s: challenger %d cannot be served: %s", name, canary.version, error)
                return
        if served.canary != canary:
            log.info("%s: version %d answers %g of the users", name, canary.version, canary.share)
            served.canary = canary

    def _canary(self, name: str) -> Canary | None:
        """The policy's, as the learner leads it; one of a fixed share where nobody does. Blocks."""
        version = self._registry.challenger_version(name)
        if version is None:
            return None
        led = self._registry.canaries.of(name)
        if led is not None or not self._canary_share:
            return led
        return Canary(version, self._canary_share, f"{name}@{version}", 0.0)

    def _trace_swap(self, version: PolicyVersion, began: float) -> None:
        """The last span of each vote that the version has learnt from: it is served."""
        if self._trail is None:
            return
        ended, attributes = time.time(), {"burnish.policy_version": version.ref}
        for parent in self._trail.follow(version.lineage.get("feedback_ids", ())).values():
            tracing.past(f"serve {version.policy}", began, ended, attributes, parent=parent)

    def _why_no_champion(self, name: str, served: ServedPolicy) -> str:
        """What happened to it in the registry, what that means, and what mends it."""
        try:
            self._registry.versions(name)
            what = "has no champion: its alias was removed, or the version deleted"
            mend = "promote a version"
        except UnknownVersion:
            what = "has no such model: it was deleted or renamed"
            mend = "give it its name again, or promote version 1 to begin anew with the base"
        number = served.champion.version if served.champion else None
        goes_on = "" if number is None else f"; version {number} serves on, and newer ones wait"
        return f"the registry {what}{goes_on}. To mend it, {mend}."

    def begin_anew(self, name: str) -> None:
        """Register the base as version 1 of a policy, if its model is gone. Blocks. Raises
        RegistryError."""
        try:
            self._registry.versions(name)
        except UnknownVersion:
            self._registry.ensure_base(name, self._model_path, self._engine.model_sha256)

    def served(self, name: str) -> list[int]:
        """The versions of a policy that really served last, the latest first."""
        served = self._policies.get(name, ServedPolicy())
        champion = served.champion.version if served.champion else None
        return [number for number in (champion, served.before) if number is not None]

    # Adapters

    async def _acquire_pinned(self, policy: str, number: int) -> VersionLease:
        if policy not in self._policies:
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
        lease = self._leases.grant(served)
        self._sweep_soon()
        return lease

    async def _load(self, version: PolicyVersion) -> ServedVersion:
        async with self._loading:
            return await asyncio.to_thread(self._adapters.load, version)

    def _resident(self, policy: str, number: int) -> ServedVersion | None:
        for served in self._all_resident():
            if (served.policy, served.version) == (policy, number):
                if served.ref in self._pinned:
                    self._pinned.move_to_end(served.ref)
                return served
        return None

    def _all_resident(self) -> set[ServedVersion]:
        kept = {
            version
            for served in self._policies.values()
            for version in (served.champion, served.previous, served.challenger)
            if version
        }
        return kept | set(self._pinned.values())

    def _sweep_soon(self) -> None:
        self._sweep_wanted = True
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while self._sweep_wanted:
            self._sweep_wanted = False
            async with self._loading:
                while len(self._pinned) > self._pinned_cap:
                    self._pinned.popitem(last=False)
                # What becomes needed meanwhile is either in this set or waits for the lock to be loaded.
                needed = {one.ref for one in self._all_resident()} | self.leased
                try:
                    await asyncio.to_thread(self._adapters.sweep, needed)
                except (OSError, EngineError) as error:
                    log.error("policies: what is needed no more stays for now: %s", error)
