"""A harmful version under load, on a running service: how soon after the evidence is in it is withdrawn.

Clients stream short sums, each time as another end user, and give a thumb by whether the answer is right. A version
whose adapter is noise becomes challenger; nobody touches it afterwards. The evidence is in with the vote, in the order
in which they were accepted, or the answer at which the learner's own arithmetic would withdraw: what remains is the way of a
vote through spool, stream and intake, the wait for the next look, and serving's for the next look at the alias.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
from burnish.learner.canary.evidence import Evidence, Observation
from burnish.learner.canary.settings import CanarySettings
from burnish.learner.database import Database
from burnish.learner.tables import ArmRow, CompletionRow, InteractionRow, JudgementRow
from burnish.learner.tasks import ember
from sqlalchemy import select

POLICY = "default"
LOOK_S = 0.1


@dataclass(frozen=True)
class Vote:
    """One user's: when they asked (seconds since 1970), which version answered, and whether they liked it."""

    began: float
    version: str
    liked: bool


@dataclass
class Seen:
    votes: list[Vote] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Voters:
    """Clients, each request of another user, until `stopping` is set."""

    def __init__(self, url: str, clients: int, seed: int) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="bench", max_retries=0, timeout=120
        )
        self._clients, self._rng = clients, random.Random(seed)
        self.seen, self.users, self.stopping = Seen(), 0, False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._loop())
        await self._client.close()

    async def _loop(self) -> None:
        while not self.stopping:
            self.users += 1
            try:
                self.seen.votes.append(await self._ask_and_vote(f"voter-{self.users}"))
            except openai.APIError as error:
                self.seen.failures.append(f"{type(error).__name__}: {error.message}")
                await asyncio.sleep(0.2)

    async def _ask_and_vote(self, user: str) -> Vote:
        task = ember.sample(self._rng, family="arithmetic", level=1)
        messages: Any = list(task.messages)
        began, text, version, id = time.time(), "", "", ""
        stream = await self._client.chat.completions.create(
            model=POLICY, messages=messages, user=user, max_tokens=24, stream=True
        )
        async for chunk in stream:
            id, version = chunk.id, chunk.system_fingerprint or ""
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        liked = ember.is_correct(task, text)
        body = {"interaction_id": id, "name": "thumbs", "value": "up" if liked else "down"}
        await self._client.post("/feedback", body={**body, "user": user}, cast_to=object)
        return Vote(began, version, liked)

    async def challenger(self) -> int | None:
        told: Any = await self._client.get(f"/policies/{POLICY}", cast_to=object)
        return told["challenger"]

    async def begin(self, version: int, share: float) -> None:
        body = {"action": "begin", "version": version, "share": share, "why": "benchmark"}
        await self._client.post(f"/policies/{POLICY}/canary", body=body, cast_to=object)

    async def told(self) -> dict[str, Any]:
        found: Any = await self._client.get(f"/policies/{POLICY}/canary", cast_to=object)
        return found


async def withdraw_under_load(
    url: str, version: int, share: float, *, clients: int, calm_s: float, limit_s: float
) -> tuple[Seen, float, float | None, dict[str, Any]]:
    """Load; after `calm_s` the version becomes challenger. What was seen, when it began, when nobody was given it any
    more (None: not within `limit_s`), and what the API says of it then."""
    voters = Voters(url, clients, seed=1)
    running = asyncio.create_task(voters.run())
    try:
        await asyncio.sleep(calm_s)
        began = time.time()
        await voters.begin(version, share)
        withdrawn_at: float | None = None
        while withdrawn_at is None and time.time() - began < limit_s:
            await asyncio.sleep(LOOK_S)
            if await voters.challenger() is None:
                withdrawn_at = time.time()
        await asyncio.sleep(calm_s)  # somebody might still be answered by it
        told = await voters.told()
    finally:
        voters.stopping = True
        await running
    return voters.seen, began, withdrawn_at, told


def figures_of(
    seen: Seen,
    version: int,
    began: float,
    withdrawn_at: float | None,
    told: dict[str, Any],
    evidence_at: float | None,
) -> dict[str, Any]:
    """Times in seconds; votes are of everybody, in either arm or none."""
    ref = f"{POLICY}@{version}"
    theirs = [vote for vote in seen.votes if vote.version == ref]
    others = [vote for vote in seen.votes if vote.version != ref]
    last = told.get("last") or {}
    since = None
    if withdrawn_at is not None and evidence_at is not None:
        since = withdrawn_at - evidence_at
    return {
        "votes": len(seen.votes),
        "failed_requests": len(seen.failures),
        "failures": seen.failures[:10],
        "votes_on_the_harmful_version": len(theirs),
        "its_thumbs_rate": _rate(theirs),
        "the_champions_thumbs_rate": _rate(others),
        "says": told["says"],
        "state": last.get("state"),
        "pairs_of_voters": (last.get("figures") or {}).get("compared"),
        "from_begin_to_evidence_s": None if evidence_at is None else evidence_at - began,
        "from_begin_to_withdrawal_s": None if withdrawn_at is None else withdrawn_at - began,
        "from_evidence_to_withdrawal_s": since,
        "answered_by_it_though_withdrawn": sum(
            withdrawn_at is not None and vote.began > withdrawn_at for vote in theirs
        ),
    }


def evidence_in_at(
    observations: Sequence[tuple[float, Observation]], settings: CanarySettings
) -> float | None:
    """When that came in at which the arithmetic would withdraw; observations by time."""
    evidence = Evidence(settings)
    for at, seen in observations:
        evidence.add(seen)
        if evidence.worse:
            return at
    return None


def observed(database: Database, version: int, since: float) -> list[tuple[float, Observation]]:
    """What the canary's users did, by the time at which the service accepted it: each of them came once."""
    query = (
        select(ArmRow, InteractionRow.time, CompletionRow.token_ids, JudgementRow)
        .join(InteractionRow, InteractionRow.id == ArmRow.interaction_id)
        .join(CompletionRow, CompletionRow.interaction_id == ArmRow.interaction_id)
        .outerjoin(JudgementRow, JudgementRow.interaction_id == ArmRow.interaction_id)
        .where(ArmRow.challenger == version, InteractionRow.time >= int(since))
    )
    found: list[tuple[float, Observation]] = []
    with database.read() as session:
        for arm, asked, token_ids, judged in session.execute(query):
            name: Any = arm.name
            seconds = arm.seconds or 0.0
            found.append((asked + seconds, Observation("tokens", name, float(len(token_ids)))))
            found.append((asked + seconds, Observation("seconds", name, seconds)))
            if judged is not None:
                value = float(judged.value == "up")
                found.append((judged.time, Observation("thumbs", name, value)))
    return sorted(found, key=lambda pair: pair[0])


def _rate(votes: Sequence[Vote]) -> float | None:
    return sum(vote.liked for vote in votes) / len(votes) if votes else None
