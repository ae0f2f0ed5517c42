"""The canary's tick: follows a policy's challenger from its first users to its end.

    begin      whatever the alias `challenger` names, by us or by a person, at the first share or in shadow
    observe    what is new of its users                              observations.py
    decide     from all evidence                                     decision.py
    act        in the registry: ramp, promote, withdraw
    tell       a line for `burnish status`, the figures for the API

A tick can be repeated, and may die between any two of these: what was decided is written down before the registry is
asked, and the aliases say whether it was done. People act through the registry too: somebody who moves an alias ends
the canary, and a share that they set, or a pause, stands. Left out: what makes a candidate a challenger
(update/registration.py), and alarms, which are given.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from burnish.feedback.contract import CANARY_PREFIX, failed_key
from burnish.learner.canary.decision import Decision, after_shadow, decide
from burnish.learner.canary.evidence import Evidence
from burnish.learner.canary.figures import ARMS, figures_of, sentence
from burnish.learner.canary.observations import forget_users, observe, read
from burnish.learner.canary.settings import CanarySettings, CanarySettingsError, read_settings
from burnish.learner.canary.shadow import result_of
from burnish.learner.database import Database
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import CanaryRow
from burnish.learner.ticks import Tick, publish, record
from burnish.serving.registry import Canary, PolicyRegistry
from sqlalchemy import select

log = logging.getLogger(__name__)

WHO = "canary"
RUNNING, OUTSIDE = "running", "outside"
STATES: Mapping[str, str] = {"promote": "promoted", "withdraw": "withdrawn", "end": "ended"}


@dataclass
class _Known:
    """Evidence of a canary as far as it has been read."""

    settings: CanarySettings
    evidence: Evidence
    seq: int = 0


@dataclass
class Controller:
    """One per process; it remembers what it has read."""

    settings: LearnerSettings
    database: Database
    registry: PolicyRegistry
    client: redis.Redis
    clock: Callable[[], float] = time.time
    _known: dict[str, _Known] = field(default_factory=dict)

    def tick(self, policy: str, open_alarms: Sequence[str] = ()) -> Tick | None:
        """One look at a policy's canary; None where nothing happened, or another process looks.

        `open_alarms`: a sentence for each alarm of the policy that is open. Raises RegistryError.
        """
        seconds = self.settings.lease_seconds
        try:
            with Lease(self.client, f"canary:{policy}", seconds, database=self.database) as lease:
                made = self._look(policy, lease, open_alarms)
        except LeaseHeld:
            return None
        if made is not None:
            publish(self.client, made)
        return made

    def _look(self, policy: str, lease: Lease, open_alarms: Sequence[str]) -> Tick | None:
        version = self.registry.challenger_version(policy)
        champion = self.registry.champion_version(policy)
        running = self._running(policy)
        if running is not None and (version, champion) != (running.version, running.champion):
            return self._close(running, lease)
        if version is None or champion is None or version == champion:
            return None
        try:
            settings = read_settings(self.settings.canary_settings, policy)
        except CanarySettingsError as error:
            return self._problem(policy, f"BURNISH_CANARY_SETTINGS: {error}")
        if running is None:
            return self._begin(policy, version, champion, settings, lease)
        canary = self.registry.canaries.of(policy)
        if canary is None or canary.salt != running.salt:
            return self._close(running, lease)
        return self._go_on(running, canary, settings, lease, open_alarms)

    def _begin(
        self, policy: str, version: int, champion: int, settings: CanarySettings, lease: Lease
    ) -> Tick:
        """Of a challenger that the registry knows of; where a tick died in between, the one it began."""
        canary = self.registry.canaries.of(policy)
        if canary is None or self._was_run(canary.salt):
            lease.check()
            for arm in ARMS:
                self.client.delete(failed_key(policy, version, arm))
            share = 0.0 if settings.shadow else settings.shares[0]
            canary = self.registry.canaries.begin(policy, version, share, who=WHO, at=self.clock())
        row = CanaryRow(
            id=uuid.uuid4().hex,
            policy=policy,
            version=version,
            champion=champion,
            salt=canary.salt,
            share=canary.share,
            state=RUNNING,
            started_at=canary.started_at,
            ended_at=None,
            why="",
            figures={},
        )
        did = f"{policy}@{version} answers {canary.share:.0%} of users, beside {policy}@{champion}"
        return self._write(row, lease, did)

    def _go_on(
        self,
        row: CanaryRow,
        canary: Canary,
        settings: CanarySettings,
        lease: Lease,
        open_alarms: Sequence[str],
    ) -> Tick | None:
        evidence = self._evidence(row, settings, lease)
        hours = (self.clock() - row.started_at) / 3600
        paused = self.registry.paused(row.policy)
        told: dict[str, Any] = {
            "open_alarms": open_alarms,
            "paused": canary.paused_by or (paused.who if paused else None),
        }
        if canary.share:
            decided = decide(settings, evidence, share=canary.share, hours=hours, **told)
        else:
            shadow = result_of(self.client, row.id)
            decided = after_shadow(settings, shadow, hours=hours, **told)
        ref = f"{row.policy}@{row.version}"
        figures = {**figures_of(settings, evidence), "action": decided.action}
        changed = figures != row.figures or canary.share != row.share
        row.share, row.why, row.figures = canary.share, decided.why, figures
        says = sentence(ref, canary.share, decided)
        if decided.action == "hold":
            if changed:
                self._save(row, lease)
            self._tell(row, canary, says)
            return None
        self._save(row, lease)
        lease.check()
        self._act(row, decided)
        if decided.action == "ramp":
            row.share = decided.share or row.share
            self._tell(row, canary, says)
            return self._write(row, lease, says)
        return self._finish(row, lease, says)

    def _act(self, row: CanaryRow, decided: Decision) -> None:
        policy, canaries = row.policy, self.registry.canaries
        match decided.action:
            case "promote":
                self.registry.promote(policy, row.version, who=WHO, why=decided.why)
            case "withdraw" | "end":
                canaries.withdraw(policy, who=WHO, why=decided.why)
            case "ramp":
                canaries.ramp(policy, decided.share or row.share, who=WHO, why=decided.why)
            case "hold":
                pass

    def _close(self, row: CanaryRow, lease: Lease) -> Tick:
        """The aliases have moved: as was decided, by a tick that came no further; or by somebody."""
        ref = f"{row.policy}@{row.version}"
        if row.figures.get("action") in STATES:
            return self._finish(row, lease, f"the canary of {ref} is over: {row.why}")
        promoted = self.registry.champion_version(row.policy) == row.version
        how = "somebody promoted it" if promoted else "somebody moved challenger or champion"
        row.figures, row.why = {**row.figures, "action": OUTSIDE}, how
        return self._finish(row, lease, f"the canary of {ref} is over: {how}")

    def _finish(self, row: CanaryRow, lease: Lease, says: str) -> Tick:
        row.state = STATES.get(row.figures["action"], OUTSIDE)
        row.ended_at = self.clock()
        with self.database.write() as session:
            lease.fence(session)
            forget_users(session, row.id)
        self._known.pop(row.id, None)
        self._tell(row, None, says)
        return self._write(row, lease, says)

    def _evidence(self, row: CanaryRow, settings: CanarySettings, lease: Lease) -> Evidence:
        """All that was observed so far, with what is new."""
        with self.database.write() as session:
            lease.fence(session)
            observe(session, row)
        known = self._known.get(row.id)
        if known is None or known.settings != settings:
            known = self._known[row.id] = _Known(settings, Evidence(settings))
        with self.database.read() as session:
            for seq, seen in read(session, row.id, known.seq):
                known.evidence.add(seen)
                known.seq = seq
        failed = [self.client.scard(failed_key(row.policy, row.version, arm)) for arm in ARMS]
        known.evidence.count_failures(*map(int, failed))  # type: ignore[arg-type]
        return known.evidence

    def _running(self, policy: str) -> CanaryRow | None:
        query = select(CanaryRow).where(CanaryRow.policy == policy, CanaryRow.state == RUNNING)
        with self.database.read() as session:
            row = session.scalars(query).first()
            session.expunge_all()
        return row

    def _was_run(self, salt: str) -> bool:
        with self.database.read() as session:
            return (
                session.scalars(select(CanaryRow.id).where(CanaryRow.salt == salt)).first()
                is not None
            )

    def _save(self, row: CanaryRow, lease: Lease) -> None:
        with self.database.write() as session:
            lease.fence(session)
            session.merge(row)

    def _write(self, row: CanaryRow, lease: Lease, did: str) -> Tick:
        """Save the canary, and its tick's line for good."""
        counts = {
            "version": row.version,
            "share": row.share,
            "compared": row.figures.get("compared", 0),
        }
        tick = Tick(WHO, row.policy, did, counts=counts, at=self.clock())
        with self.database.write() as session:
            lease.fence(session)
            session.merge(row)
            record(session, tick)
        return tick

    def _tell(self, row: CanaryRow, canary: Canary | None, says: str) -> None:
        """Leave it where serving reads it."""
        told: dict[str, Any] = {
            "policy": row.policy,
            "version": row.version,
            "champion": row.champion,
            "state": row.state,
            "share": row.share if canary else 0.0,
            "paused_by": canary.paused_by if canary else None,
            "started_at": row.started_at,
            "ended_at": row.ended_at,
            "says": says,
            "at": self.clock(),
            "figures": row.figures,
        }
        self.client.set(CANARY_PREFIX + row.policy, json.dumps(told))

    def _problem(self, policy: str, why: str) -> Tick | None:
        """What keeps a canary from being led; said once, until it is another."""
        key = CANARY_PREFIX + policy
        found: Any = self.client.get(key)
        if found is not None and json.loads(found).get("says") == why:
            return None
        self.client.set(key, json.dumps({"policy": policy, "state": "problem", "says": why}))
        return Tick(WHO, policy, "led no canary", why_not=why, at=self.clock())
