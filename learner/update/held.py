"""Versions that hold what was erased: trained past from the base, then deleted.

While a receipt waits (intake/receipts.py), an update on a champion that saw what was erased begins anew from the base, on
what is left, and passes the gate like any other. Once another version serves, the files of all that saw it go: from the registry,
the checkpoints, and what was fetched; serving clears its own copies away. Where too little is left to learn from, the base
itself serves again. Their numbers, lineage and gate reports stay: these hold ids and figures.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from burnish.learner.database import Database
from burnish.learner.intake.receipts import held_by, under_way, waiting
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import AttemptRow, ErasureReceiptRow
from burnish.serving.registry import PolicyRegistry
from sqlalchemy import select
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

SERVED = ("champion", "challenger")


@dataclass(frozen=True)
class Released:
    """An erasure that is complete, and the versions by policy that held what it was about."""

    id: str
    versions: dict[str, list[int]]


def anew_since(session: Session, policy: str, champion: int) -> float | None:
    """When the last of those was erased whom this champion has learnt from; None where it may be learnt on."""
    times = [
        receipt.at
        for receipt in waiting(session)
        if champion in held_by(session, receipt).get(policy, ())
    ]
    return max(times, default=None)


def release(
    database: Database, registry: PolicyRegistry, settings: LearnerSettings
) -> list[Released]:
    """Delete what holds erased data and is served no more; the receipts that are complete by this."""
    complete = []
    with database.read() as session:
        pending = waiting(session)
        held = {receipt.id: held_by(session, receipt) for receipt in pending}
        unfinished = {receipt.id: under_way(session, receipt) for receipt in pending}
    for receipt in pending:
        left = [
            policy
            for policy, versions in held[receipt.id].items()
            if versions and not _released(database, registry, settings, policy, versions)
        ]
        if left or unfinished[receipt.id]:
            continue
        with database.write() as session:
            row = session.get_one(ErasureReceiptRow, receipt.id)
            row.state = "finished"
            row.held = versions = {p: sorted(v) for p, v in held[receipt.id].items() if v}
            for policy in receipt.since:
                _delete_abandoned(session, settings, policy, receipt.at)
        complete.append(Released(receipt.id, versions))
    return complete


def _released(
    database: Database,
    registry: PolicyRegistry,
    settings: LearnerSettings,
    policy: str,
    versions: set[int],
) -> bool:
    """Whether none of them serves, and their files are gone."""
    if registry.champion_version(policy) in versions:
        return False
    registry.drop_aliases(policy, versions)
    for version in sorted(versions):
        registry.delete_adapter(policy, version)
        shutil.rmtree(settings.data_dir / "fetched" / f"{policy}@{version}", ignore_errors=True)
    with database.read() as session:
        query = select(AttemptRow.id).where(
            AttemptRow.policy == policy, AttemptRow.version.in_(versions)
        )
        _delete_checkpoints(settings, policy, session.scalars(query))
    log.info("%s: deleted the files of versions %s, which held erased data", policy, versions)
    return True


def _delete_abandoned(
    session: Session, settings: LearnerSettings, policy: str, before: float
) -> None:
    """The checkpoints of attempts that came to nothing before that time: they may hold erased data."""
    query = select(AttemptRow.id).where(
        AttemptRow.policy == policy,
        AttemptRow.version.is_(None),
        AttemptRow.started_at <= before,
    )
    _delete_checkpoints(settings, policy, session.scalars(query))


def _delete_checkpoints(settings: LearnerSettings, policy: str, ids: Iterable[str]) -> None:
    for id in ids:
        for folder in (settings.checkpoints / policy).glob(f"*{id}*"):
            shutil.rmtree(folder, ignore_errors=True)
