"""Receipts of erasures: what was removed where, and which versions held it; the learner's part of one.

The receipt is written in the transaction that removes the rows, so that a tick that dies leaves both or neither.
Versions held what they were trained with: whatever an attempt begun between a person's first event and their
erasure made, since prompts are learnt from too, judged or not. Left out: what becomes of those versions
(update/held.py).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from typing import Any

import redis
from burnish.feedback.erasures import Erasure, Erasures
from burnish.learner.database import Database
from burnish.learner.intake.erasure import count_user, erase_user, first_events
from burnish.learner.tables import AttemptRow, ErasureReceiptRow
from sqlalchemy import select
from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

STORE = "database"
SETTLES_S = 5.0  # an attempt that begins while rows are removed may still read them


def carry_out(database: Database, erasures: Erasures, client: Any) -> int:
    """Erase from the experience database whom serving has erased from the rest; how many people."""
    served = erasures.under_way("served")
    for erasure in served:
        erase(database, erasures, erasure)
    if served:
        rewrite_log(client)
    return len(served)


def erase(database: Database, erasures: Erasures, erasure: Erasure) -> None:
    """Once more after a crash it finds its receipt, and goes on from there."""
    if erasure.user is None:
        return
    with database.write() as session:
        if session.get(ErasureReceiptRow, erasure.id) is None:
            since = first_events(session, erasure.tenant, erasure.user)
            counted = count_user(session, erasure.tenant, erasure.user)
            gone = erase_user(session, erasure.tenant, erasure.user, erasure.at)
            session.add(
                ErasureReceiptRow(
                    id=erasure.id,
                    tenant=erasure.tenant,
                    person=erasure.person,
                    at=time.time() + SETTLES_S,
                    state="weights",
                    removed={**erasure.removed, **({STORE: counted} if counted else {})},
                    since=since,
                    held=gone.versions,
                )
            )
    database.forget_deleted()
    with database.write() as session:
        receipt = session.get_one(ErasureReceiptRow, erasure.id)
        held = held_by(session, receipt)
        if not any(held.values()) and not under_way(session, receipt):
            receipt.state = "finished"
        state, counted = receipt.state, receipt.removed.get(STORE, {})
    before = erasure.removed.get(STORE, {})
    missing = {kind: number - before.get(kind, 0) for kind, number in counted.items()}
    erasures.add_removed(erasure.id, STORE, missing)
    erasures.advance(erasure.id, "finished" if state == "finished" else "weights", _listed(held))


def count(database: Database, erasures: Erasures, id: str) -> None:
    """The learner's part of a dry run."""
    erasure = erasures.get(id)
    if erasure is None or erasure.user is None or erasure.state == "finished":
        return
    with database.read() as session:
        counted = count_user(session, erasure.tenant, erasure.user)
        since = first_events(session, erasure.tenant, erasure.user)
        held = _made_since(session, since, erasure.at)
    erasures.add_removed(id, STORE, counted)
    erasures.advance(id, "finished", _listed(held))


def held_by(session: Session, receipt: ErasureReceiptRow) -> dict[str, set[int]]:
    """The versions, by policy, whose training saw what was erased; those of attempts that were under way too,
    once they are registered."""
    found = _made_since(session, receipt.since, receipt.at)
    for policy, versions in receipt.held.items():
        found[policy] |= set(versions)
    return found


def waiting(session: Session) -> list[ErasureReceiptRow]:
    """Those whose versions may still be served."""
    query = select(ErasureReceiptRow).where(ErasureReceiptRow.state == "weights")
    return list(session.scalars(query.order_by(ErasureReceiptRow.at)))


def under_way(session: Session, receipt: ErasureReceiptRow) -> bool:
    """Whether an attempt that may have read what was erased can still make a version."""
    query = select(AttemptRow.id).where(
        AttemptRow.policy.in_(receipt.since),
        AttemptRow.state.in_(("training", "registered")),
        AttemptRow.started_at <= receipt.at,
    )
    return session.scalars(query.limit(1)).first() is not None


def rewrite_log(client: Any) -> None:
    """Have Redis write its append-only file anew: the old one tells what was deleted, until it is replaced."""
    try:
        client.bgrewriteaof()
    except redis.RedisError as error:  # one is under way, or a hosted server sees to it itself
        log.info("Redis does not rewrite its append-only file now: %s", error)


def _made_since(session: Session, since: dict[str, float], at: float) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for policy, first in since.items():
        query = select(AttemptRow.version).where(
            AttemptRow.policy == policy,
            AttemptRow.version.is_not(None),
            AttemptRow.started_at.between(first, at),
        )
        found[policy] |= {version for version in session.scalars(query) if version is not None}
    return found


def _listed(held: dict[str, set[int]]) -> dict[str, list[int]]:
    return {policy: sorted(versions) for policy, versions in held.items() if versions}
