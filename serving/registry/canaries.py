"""A policy's canary, as all who serve and the learner must know it: which version, for what share, by which salt.

It is a tag of the registered model beside the alias `challenger`, so that it moves with the alias, can be looked at in
MLflow's page, and needs no other store. The alias decides: a canary whose version is not the challenger is over, and
a challenger that somebody named without us has none until the learner begins it.
Left out: what comes of one (learner/canary).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from burnish.serving.registry.errors import NoCanary
from burnish.serving.registry.model_store import ModelStore

CHALLENGER = "challenger"
LARGEST_SHARE = 0.5  # the control arm is as large

_TAG = "burnish.canary"
_TRIED = "burnish.tried_at"  # of a version, for good


@dataclass(frozen=True)
class Canary:
    """`share` of end users whom `version` answers, and of those in the control arm; `salt` draws them."""

    version: int
    share: float
    salt: str
    started_at: float  # seconds since 1970
    paused_by: str | None = None


class Canaries:
    """Begun, ramped, paused and withdrawn. Calls block. Raises RegistryError.

    Each change is noted: what, about what, why, details, who.
    """

    def __init__(self, store: ModelStore, note: Callable[..., None]) -> None:
        self._store, self._note = store, note

    def of(self, policy: str) -> Canary | None:
        """The one that runs; None without a challenger, or where nobody has begun one for it."""
        version = self._store.alias(policy, CHALLENGER)
        if version is None:
            return None
        try:
            found = Canary(**json.loads(self._store.model(policy).tags.get(_TAG, "")))
        except (ValueError, TypeError):  # there is none, or somebody else wrote it
            return None
        return found if found.version == version else None

    def tried_at(self, policy: str, version: int) -> float | None:
        """When a version's first canary began, in seconds since 1970; None where it had none. Raises
        UnknownVersion."""
        try:
            return float(self._store.version(policy, version).tags[_TRIED])
        except (KeyError, ValueError):  # there was none, or somebody else wrote it
            return None

    def begin(
        self,
        policy: str,
        version: int,
        share: float,
        *,
        who: str,
        why: str = "",
        at: float | None = None,
    ) -> Canary:
        """Have `version` answer a share of users, drawn anew; `at`: since when, if not now."""
        began = time.time() if at is None else at
        made = Canary(version, share, secrets.token_hex(8), began)
        if self.tried_at(policy, version) is None:
            self._store.set_version_tag(policy, version, _TRIED, repr(began))
        self._write(policy, made)  # before the alias: who sees that must find it
        self._store.set_alias(policy, CHALLENGER, version)
        self._note("canary begins", f"{policy}@{version}", why, {"share": share}, who)
        return made

    def ramp(self, policy: str, share: float, *, who: str, why: str = "") -> Canary:
        """To a share in (0, LARGEST_SHARE]. Raises ValueError, NoCanary."""
        if not 0 < share <= LARGEST_SHARE:
            raise ValueError(f"a share is above 0 and at most {LARGEST_SHARE}")
        made = replace(self._running(policy), share=share)
        self._write(policy, made)
        self._note("canary ramped", f"{policy}@{made.version}", why, {"share": share}, who)
        return made

    def pause(self, policy: str, *, who: str, why: str = "") -> Canary:
        """Neither ramped nor promoted until it is resumed. Raises NoCanary."""
        return self._hold(policy, who, "canary paused", who, why)

    def resume(self, policy: str, *, who: str, why: str = "") -> Canary:
        """Raises NoCanary."""
        return self._hold(policy, None, "canary resumed", who, why)

    def withdraw(self, policy: str, *, who: str, why: str = "") -> int:
        """The champion answers everybody again; the version that was withdrawn. Raises NoCanary where there is
        no challenger."""
        version = self._store.alias(policy, CHALLENGER)
        if version is None:
            raise NoCanary(f"policy '{policy}' has no challenger")
        self._store.drop_alias(policy, CHALLENGER)
        self._note("canary withdrawn", f"{policy}@{version}", why, None, who)
        return version

    def _hold(self, policy: str, by: str | None, what: str, who: str, why: str) -> Canary:
        made = replace(self._running(policy), paused_by=by)
        self._write(policy, made)
        self._note(what, f"{policy}@{made.version}", why, None, who)
        return made

    def _running(self, policy: str) -> Canary:
        found = self.of(policy)
        if found is None:
            raise NoCanary(f"no canary of policy '{policy}' runs")
        return found

    def _write(self, policy: str, canary: Canary) -> None:
        self._store.set_tag(policy, _TAG, json.dumps(asdict(canary)))
