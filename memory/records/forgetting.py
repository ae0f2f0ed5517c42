"""Forgetting policies: which records to erase, each with the reason.

superseded  its window ended (its slot has a newer value), at least `older_than_s` ago
expired     past its expires_at
useless     judged harmful on balance, or older than `older_than_s` and never recalled
unlikely    beyond the `keep` most likely to be needed: recency and frequency of recalls in
            one number that halves every 14 days (LRFU, Lee et al. 2001), newest first among
            equals
What is pinned is never chosen. A dry run lists the same records with the same reasons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from burnish.memory.errors import BadStep, RecordNotFound, StaleRecord
from burnish.memory.records.record import Record, RecordFilter
from burnish.memory.records.records import Records

DAY = 86400.0
LISTED = 100


class ForgettingPolicy(StrEnum):
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    USELESS = "useless"
    UNLIKELY = "unlikely"


DEFAULT_AGE = {
    ForgettingPolicy.SUPERSEDED: 0.0,
    ForgettingPolicy.EXPIRED: 0.0,
    ForgettingPolicy.USELESS: 30 * DAY,
}


@dataclass(frozen=True)
class DueRecord:
    """A record that a policy would forget, and why."""

    record: Record
    why: str

    def public(self) -> dict[str, Any]:
        return {"id": self.record["id"], "text": self.record["text"], "why": self.why}


async def choose(
    records: Records,
    tenant: str,
    policy: ForgettingPolicy,
    *,
    user: str | None = None,
    older_than_s: float | None = None,
    keep: int | None = None,
) -> Sequence[DueRecord]:
    """The records this policy would forget, oldest first. Raises BadStep."""
    if (policy is ForgettingPolicy.UNLIKELY) != (keep is not None):
        raise BadStep(
            "keep (how many records stay) belongs to the policy 'unlikely', which needs it"
        )
    everything = RecordFilter(user=user, include_superseded=True, include_expired=True)
    if policy is ForgettingPolicy.UNLIKELY:
        rows = [row async for row in records.scan(tenant, everything)]
        return _least_likely(rows, keep or 0)
    now = records.now()
    age = DEFAULT_AGE[policy] if older_than_s is None else older_than_s
    chosen: list[DueRecord] = []
    async for record, _ in records.scan(tenant, everything):
        if not record["pinned"] and (why := _reason(policy, record, now, age)):
            chosen.append(DueRecord(record, why))
    return chosen


async def forget_chosen(records: Records, tenant: str, chosen: Sequence[DueRecord]) -> int:
    """Erase them, but none that was pinned, recalled or rewritten since; how many were erased."""
    erased = 0
    for due in chosen:
        seen = due.record
        try:
            now = await records.get(tenant, seen["id"])
            if any(now[name] != seen[name] for name in ("pinned", "recalls", "updated_at")):
                continue
            erased += await records.forget(tenant, now["id"], now["version"])
        except (StaleRecord, RecordNotFound):
            continue
    return erased


async def forget_by_policy(
    records: Records, tenant: str, policy: ForgettingPolicy, *, dry_run: bool, **options: Any
) -> dict[str, Any]:
    """Choose and, unless it is a dry run, erase. Raises BadStep."""
    chosen = await choose(records, tenant, policy, **options)
    gone = len(chosen) if dry_run else await forget_chosen(records, tenant, chosen)
    listed = [due.public() for due in chosen[:LISTED]] if dry_run else []
    return {"records": gone, "policy": policy.value, "dry_run": dry_run, "listed": listed}


def _reason(policy: ForgettingPolicy, record: Record, now: float, age: float) -> str:
    """Why this policy would forget the record, '' if it would not."""
    if policy is ForgettingPolicy.EXPIRED:
        ended = record["expires_at"]
        return f"expired {_ago(now - ended)} ago" if ended and ended + age <= now else ""
    if policy is ForgettingPolicy.SUPERSEDED:
        ended = record["valid_until"]
        if ended is None or ended + age > now:
            return ""
        newer = record["superseded_by"]
        what = f"superseded by {newer}" if newer else "no longer valid"
        return f"{what} since {_ago(now - ended)}"
    if record["feedback"] < 0:
        return f"judged harmful on balance ({record['feedback']:+g})"
    old = now - record["created_at"]
    if record["recalls"] == 0 and old >= age:
        return f"never recalled in {_ago(old)}"
    return ""


def _least_likely(rows: Sequence[tuple[Record, float]], keep: int) -> Sequence[DueRecord]:
    """All but the pinned and the `keep` of the highest heat among the rest."""
    unpinned = [(heat, record) for record, heat in rows if not record["pinned"]]
    ranked = sorted(enumerate(unpinned), key=lambda due: (-due[1][0], -due[0]))
    least = sorted((place, *pair) for place, pair in ranked[keep:])
    return [
        DueRecord(record, f"need estimate {heat:.3f}, below the {keep} most likely")
        for _, heat, record in least
    ]


def _ago(seconds: float) -> str:
    return f"{seconds / DAY:.1f} days" if seconds >= DAY else f"{seconds:.0f} s"
