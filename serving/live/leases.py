"""Leases on versions: a version stays resident while a request uses it."""

from __future__ import annotations

from collections.abc import Callable

from burnish.serving.live.adapters import ServedVersion
from burnish.serving.live.canary import AnsweredBy, Assignment


class VersionLease:
    """Keeps one version resident until `release`, which may be called twice.

    `arm`: which of a policy's versions it is, None for one that was asked for by number; `assignment`: the end
    user's, where a canary has one.
    """

    def __init__(
        self,
        served: ServedVersion,
        released: Callable[[str], None],
        arm: AnsweredBy | None = None,
        assignment: Assignment | None = None,
    ):
        self.arm: AnsweredBy | None = arm
        self.assignment = assignment
        self.policy = served.policy
        self.version = served.version
        self.adapter = served.adapter
        self.ref = served.ref
        self._released: Callable[[str], None] | None = released

    def release(self) -> None:
        released, self._released = self._released, None
        if released is not None:
            released(self.ref)


class Leases:
    """How many leases each version has. `unused` is called when a version loses its last one."""

    def __init__(self, unused: Callable[[], None]):
        self._counts: dict[str, int] = {}
        self._unused = unused

    def grant(
        self,
        served: ServedVersion,
        arm: AnsweredBy | None = None,
        assignment: Assignment | None = None,
    ) -> VersionLease:
        self._counts[served.ref] = self._counts.get(served.ref, 0) + 1
        return VersionLease(served, self._release, arm, assignment)

    @property
    def refs(self) -> set[str]:
        """The versions in use, as `policy@version`."""
        return set(self._counts)

    def _release(self, ref: str) -> None:
        self._counts[ref] -= 1
        if not self._counts[ref]:
            del self._counts[ref]
            self._unused()
