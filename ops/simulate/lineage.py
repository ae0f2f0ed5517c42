"""Which votes each version's weights have seen, read from the API's own account of lineage.

A version names the judgements that were new to it; what its ancestors learnt counts too.
Nothing is looked up in the learner's database: a product that embeds the service sees
only the API, and the figure should be one such a product could check.
"""

from __future__ import annotations

from collections.abc import Mapping

from burnish.ops.simulate.api import Api
from burnish.ops.simulate.journal import Journal, Vote


async def learnt_by_version(api: Api, policy: str, journal: Journal) -> dict[int, frozenset[str]]:
    """For each version that answered anyone: ids of all the votes in its weights."""
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
    served: set[int], known: Mapping[int, Mapping], votes: Mapping[str, Vote]
) -> dict[int, frozenset[str]]:
    """Walk each served version's ancestors and gather what they learnt."""
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
    """The id a client knows: `tenant/id#revision` without tenant and revision."""
    return event_id.rpartition("/")[2].partition("#")[0]
