"""Experience as the learner reads it: judged answers, whose votes are believed how much, which
judgements are new, and which prompts people ask.

What stands in the tables is made in intake/joining.py; here nothing is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from burnish.feedback.rewards import Judgement, reward_of, worth_of
from burnish.feedback.trust import TrustPolicy, Vote, weigh
from burnish.learner.database import CompletionRow, CreditRow, ExperienceRow, InteractionRow
from burnish.learner.intake.joining import Answer, slices, standing_votes
from sqlalchemy import func, select
from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Experience:
    """One judged answer, ready to learn from. `reward` in [-1, 1]; `staleness` in versions."""

    interaction_id: str
    choice: int
    version: int
    staleness: int
    tenant: str
    user: str | None
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    reward: float
    weight: float
    judged_at: float
    votes: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Belief:
    """What is left when votes are weighed, and how many were held back."""

    experience: list[Experience]
    quarantined: int
    capped: int
    disbelieved: int


def load(
    session: Session, policy: str, *, champion: int, limit: int, max_staleness: int
) -> list[Experience]:
    """The latest `limit` judged answers of a policy, oldest first, without those too stale."""
    query = (
        select(ExperienceRow, InteractionRow, CompletionRow)
        .join(InteractionRow, InteractionRow.id == ExperienceRow.interaction_id)
        .join(
            CompletionRow,
            (CompletionRow.interaction_id == ExperienceRow.interaction_id)
            & (CompletionRow.choice == ExperienceRow.choice),
        )
        .where(
            ExperienceRow.policy == policy,
            ExperienceRow.version >= champion - max_staleness,
            ExperienceRow.weight > 0,
        )
        .order_by(ExperienceRow.judged_at.desc(), ExperienceRow.interaction_id)
        .limit(limit)
    )
    rows = [
        (row, interaction, completion)
        for row, interaction, completion in session.execute(query)
        if completion.token_ids and interaction.prompt_ids
    ][::-1]
    votes = _votes(session, [(row.interaction_id, row.choice) for row, _, _ in rows])
    return [
        Experience(
            interaction_id=row.interaction_id,
            choice=row.choice,
            version=row.version,
            staleness=max(0, champion - row.version),
            tenant=row.tenant,
            user=row.user,
            prompt_ids=tuple(interaction.prompt_ids),
            token_ids=tuple(completion.token_ids),
            logprobs=tuple(completion.processed_logprobs or completion.logprobs),
            reward=row.reward,
            weight=row.weight,
            judged_at=row.judged_at,
            votes=votes[row.interaction_id, row.choice],
        )
        for row, interaction, completion in rows
    ]


def believe(
    experience: Sequence[Experience],
    expected: Sequence[float] | None = None,
    policy: TrustPolicy | None = None,
) -> Belief:
    """Experience with each vote weighed by who cast it: caps, bursts, and agreement with the
    others or with `expected`, the reward in [-1, 1] that the heads foresee for each answer."""
    votes = [
        Vote(
            user=vote.user,
            interaction=f"{item.interaction_id}/{item.choice}",
            value=worth.value,
            time=vote.time.timestamp(),
            tenant=item.tenant,
            name=vote.name,
            predicted=None if expected is None else expected[index],
            id=str(index),
        )
        for index, item in enumerate(experience)
        for vote in item.votes
        if (worth := worth_of(vote.name, vote.value)) is not None
    ]
    weighed = weigh(votes, policy)
    # Per answer and person; several names of one person share their fate.
    trust: dict[int, dict[str | None, float]] = defaultdict(dict)
    for vote, weight in zip(votes, weighed.weights, strict=True):
        trust[int(vote.id)][vote.user] = weight
    kept = []
    for index, item in enumerate(experience):
        plain, believed = reward_of(item.votes), reward_of(item.votes, trust[index])
        if plain is not None and believed is not None:
            share = believed.weight / plain.weight
            kept.append(replace(item, reward=believed.value, weight=item.weight * share))
    return Belief(kept, weighed.quarantined, weighed.capped, len(experience) - len(kept))


def prompts(session: Session, policy: str, limit: int) -> list[tuple[int, ...]]:
    """The prompts most lately asked, judged or not, newest first and each once."""
    query = (
        select(InteractionRow.prompt_ids)
        .where(InteractionRow.policy == policy)
        .order_by(InteractionRow.time.desc())
        .limit(limit)
    )
    return list(dict.fromkeys(tuple(ids) for ids in session.scalars(query) if ids))


def count(session: Session, policy: str) -> int:
    """How many judged answers a policy has."""
    query = select(func.count()).select_from(ExperienceRow).where(ExperienceRow.policy == policy)
    return session.scalar(query) or 0


def high_water(session: Session, policy: str) -> int:
    """The number of the newest judgement that counts for a policy; 0 when there is none."""
    query = select(func.max(CreditRow.seq)).where(CreditRow.policy == policy)
    return session.scalar(query) or 0


def new_events(session: Session, policy: str, after: int, upto: int) -> list[str]:
    """The judgements that began to count for a policy in (after, upto], in that order."""
    query = (
        select(CreditRow.event)
        .where(CreditRow.policy == policy, CreditRow.seq > after, CreditRow.seq <= upto)
        .group_by(CreditRow.event)
        .order_by(func.min(CreditRow.seq))
    )
    return list(session.scalars(query))


def _votes(session: Session, answers: Sequence[Answer]) -> dict[Answer, tuple[Judgement, ...]]:
    found: dict[Answer, tuple[Judgement, ...]] = {}
    for some in slices(answers):
        for answer, events in standing_votes(session, some).items():
            found[answer] = tuple(Judgement(e.name, e.value, e.user, e.time) for e in events)
    return found
