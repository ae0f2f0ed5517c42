"""Feedback lineage: which votes each version was trained on, according to the versions API.

A version lists the feedback that was new to it; its ancestors' counts as well. The learner's
database is not used, so that a product, which sees only the API, could check the figures.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.ops.simulate.api import ServiceApi
from burnish.ops.simulate.journal import Journal, SentVote


async def learnt_by_version(
    api: ServiceApi, policy: str, journal: Journal
) -> dict[int, frozenset[str]]:
    """By version that answered: ids of all the votes it was trained on."""
    served = {answer.version for answer in journal.answers}
    known: dict[int, dict] = {}
    waiting = [version for version in served if version > 1]
    while waiting:
        version = waiting.pop()
        if version in known:
            continue
        known[version] = await api.get(f"policies/{policy}/versions/{version}")
        parent = known[version].get("parent")
        if parent is not None and int(parent) > 1:
            waiting.append(int(parent))
    return resolve(served, known, journal.votes)


def resolve(
    served: set[int], known: Mapping[int, Mapping], votes: Mapping[str, SentVote]
) -> dict[int, frozenset[str]]:
    """By served version: the union of feedback ids over the version and its ancestors."""
    learnt = {}
    for version in served:
        seen: set[str] = set()
        step: int | None = version
        while step is not None and step in known:
            lineage = known[step].get("lineage") or {}
            if "feedback_ids" in lineage:
                seen.update(plain_id(item) for item in lineage["feedback_ids"])
            elif "feedback_until" in lineage:
                until = float(lineage["feedback_until"])
                seen.update(key for key, vote in votes.items() if vote.at <= until)
            parent = known[step].get("parent")
            step = int(parent) if parent is not None else None
        learnt[version] = frozenset(seen)
    return learnt


def plain_id(event_id: str) -> str:
    """The client's feedback id: `tenant/id#revision` without tenant and revision."""
    return event_id.rpartition("/")[2].partition("#")[0]
