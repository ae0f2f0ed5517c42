"""Quarantine: whose votes count nowhere, since they came faster than people read, and whom an admin has let out.

People are named by pseudonym (feedback/stream/user_keys.py): what is kept and shown here outlives their erasure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from burnish.feedback.judgements import Judgement
from burnish.feedback.stream.user_keys import pseudonym
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Rater, votes_among
from burnish.feedback.trust.weighing import Weights
from burnish.learner.tables import ReleaseRow
from sqlalchemy import func, select
from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Held:
    """A rater in quarantine: how many of their votes, and from when to when, in seconds since the epoch."""

    tenant: str
    person: str
    key_id: str | None
    votes: int
    first: float
    last: float


def held(judgements: Sequence[Judgement], weights: Weights) -> list[Held]:
    """Who is in quarantine among those who gave these judgements, the most votes first."""
    times: dict[Rater, list[float]] = defaultdict(list)
    for vote in votes_among(judgements):
        rater = vote.rater
        if rater is None or rater not in weights.quarantined_users:
            continue
        if not weights.weights[vote.index]:
            times[rater].append(vote.judgement.time)
    found = [
        Held(r.tenant, pseudonym(r.tenant, r.user), r.key_id, len(of), min(of), max(of))
        for r, of in times.items()
    ]
    return sorted(found, key=lambda one: (-one.votes, one.person))


def with_released(
    session: Session, trust: TrustPolicy, judgements: Iterable[Judgement]
) -> TrustPolicy:
    """The policy with whom an admin has let out, of those who gave these judgements."""
    rows = session.execute(
        select(ReleaseRow.tenant, ReleaseRow.person, ReleaseRow.key_id, ReleaseRow.until)
    ).all()
    until = {(tenant, person, key_id): until for tenant, person, key_id, until in rows}
    if not until:
        return trust
    tenants = {tenant for tenant, _, _ in until}
    raters = {vote.rater for vote in votes_among(list(judgements))}
    released = {
        rater: until[row]
        for rater in raters
        if rater is not None and rater.tenant in tenants and (row := _row_of(rater)) in until
    }
    return replace(trust, released=released)


def release(
    session: Session,
    tenant: str,
    person: str,
    key_id: str | None,
    *,
    until: float,
    who: str,
    why: str,
) -> None:
    """Let what somebody gave until that time count as anyone's."""
    session.merge(
        ReleaseRow(tenant=tenant, person=person, key_id=key_id or "", until=until, who=who, why=why)
    )


def newest_release(session: Session) -> float:
    """When somebody was let out last; 0 for never."""
    return session.scalar(select(func.max(ReleaseRow.until))) or 0.0


def _row_of(rater: Rater) -> tuple[str, str, str]:
    return rater.tenant, pseudonym(rater.tenant, rater.user), rater.key_id or ""
