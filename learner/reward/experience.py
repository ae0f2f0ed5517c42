"""Experience: judged answers with the reward that their judgements are worth.

`load` reads answers with the judgements that stand on them; `weighed` makes experience of them, once it
is known who is trusted. Beside them, which judgements are new and which prompts
people ask. What stands in the tables is written by intake/joining.py; here nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.feedback.judgements import VERDICTS, Judgement
from burnish.feedback.rewards import Reward, reward_of, worth_of
from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Person, person_of
from burnish.feedback.trust.weighing import Weights, weigh
from burnish.learner.intake.joining import slices, standing_judgements
from burnish.learner.tables import CompletionRow, CreditRow, ExperienceRow, InteractionRow
from sqlalchemy import Text, case, cast, func, select
from sqlalchemy.orm import Session


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer:
    """One answer and the judgements that stand on it. `staleness` in versions; `chosen`: picked among several
    by a reward model, so no plain sample of its version."""

    interaction_id: str
    choice: int
    version: int
    staleness: int
    tenant: str
    user: str | None
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    judged_at: float
    chosen: bool = False
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Correction:
    """What somebody says that an answer should have been; `weight` in (0, 1]: how far they are trusted; `heard`:
    what caps alone leave of it, in [0, 1]; `person`: who says so, where that is known."""

    text: str
    weight: float
    heard: float = 1.0
    person: Person | None = None


@dataclass(frozen=True, kw_only=True)
class Experience(JudgedAnswer):
    """One judged answer, ready to learn from. `reward` in [-1, 1], `weight` in (0, 1]; `heard`: what caps alone leave
    of its judgements, in [0, 1]; `person`: who judged it, the last of several, where that is known."""

    reward: float
    weight: float
    heard: float = 1.0
    person: Person | None = None
    corrections: tuple[Correction, ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class AskedChat:
    """A chat as it was asked, before the template made a prompt of it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    family: str = "a logged chat"


@dataclass(frozen=True)
class LoggedPrompt:
    """A prompt as it was asked, and by whom; `user` None for nobody named."""

    token_ids: tuple[int, ...]
    tenant: str = ""
    user: str | None = None

    @property
    def person(self) -> Person | None:
        return None if self.user is None else (self.tenant, self.user)


@dataclass(frozen=True)
class TrustedExperience:
    """The answers whose judgements count, where they stood among those given, and how many
    judgements were held back; `distrusted` answers have none left that counts."""

    experience: list[Experience]
    indices: list[int]
    quarantined: int
    capped: int
    distrusted: int


def load(
    session: Session, policy: str, *, champion: int, limit: int, max_staleness: int
) -> list[JudgedAnswer]:
    """The latest `limit` judged answers of a policy, oldest first, without those too stale."""
    query = (
        select(
            ExperienceRow.interaction_id,
            ExperienceRow.choice,
            ExperienceRow.version,
            ExperienceRow.tenant,
            ExperienceRow.user,
            ExperienceRow.judged_at,
            InteractionRow.prompt_ids,
            InteractionRow.sampling,
            CompletionRow.token_ids,
            case(
                (cast(CompletionRow.processed_logprobs, Text) == "[]", CompletionRow.logprobs),
                else_=CompletionRow.processed_logprobs,
            ).label("logprobs"),
        )
        .join(InteractionRow, InteractionRow.id == ExperienceRow.interaction_id)
        .join(
            CompletionRow,
            (CompletionRow.interaction_id == ExperienceRow.interaction_id)
            & (CompletionRow.choice == ExperienceRow.choice),
        )
        .where(
            ExperienceRow.policy == policy,
            ExperienceRow.version >= champion - max_staleness,
        )
        .order_by(ExperienceRow.judged_at.desc(), ExperienceRow.interaction_id)
        .limit(limit)
    )
    rows = [row for row in session.execute(query) if row.token_ids and row.prompt_ids][::-1]
    judgements = standing_judgements(session, [(r.interaction_id, r.choice) for r in rows])
    return [
        JudgedAnswer(
            interaction_id=row.interaction_id,
            choice=row.choice,
            version=row.version,
            staleness=max(0, champion - row.version),
            tenant=row.tenant,
            user=row.user,
            prompt_ids=tuple(row.prompt_ids),
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            judged_at=row.judged_at,
            chosen="best_of" in row.sampling,
            judgements=tuple(judgements[row.interaction_id, row.choice]),
        )
        for row in rows
    ]


def weighed(answers: Sequence[JudgedAnswer], weights: Weights) -> TrustedExperience:
    """Answers with their rewards, from the weights of all their judgements, one after another."""
    trusts, heard = iter(weights.weights), iter(weights.heard)
    kept: list[tuple[int, Experience]] = []
    for index, answer in enumerate(answers):
        trust = [next(trusts) for _ in answer.judgements]
        parts = [next(heard) for _ in answer.judgements]
        reward = reward_of(answer.judgements, trust)
        if reward is not None:
            experience = Experience(
                **vars(answer),
                reward=reward.value,
                weight=reward.weight,
                heard=sum(parts) / len(parts),
                person=person_of(max(answer.judgements, key=lambda judgement: judgement.time)),
                corrections=corrections_of(answer.judgements, trust, parts),
                comments=comments_of(answer.judgements, trust),
            )
            kept.append((index, experience))
    return TrustedExperience(
        experience=[experience for _, experience in kept],
        indices=[index for index, _ in kept],
        quarantined=weights.quarantined,
        capped=weights.capped,
        distrusted=len(answers) - len(kept),
    )


def rewards_of(
    judgements: Sequence[Sequence[Judgement]], policy: TrustPolicy | None = None
) -> list[Reward | None]:
    """The reward of each answer from the judgements that stand on it, all weighed together."""
    weights = weigh([judgement for judged in judgements for judgement in judged], None, policy)
    trusts = iter(weights.weights)
    return [reward_of(judged, [next(trusts) for _ in judged]) for judged in judgements]


def corrections_of(
    judgements: Sequence[Judgement], trust: Sequence[float], heard: Sequence[float]
) -> tuple[Correction, ...]:
    """The corrections among the judgements that stand on an answer, by people who are trusted at all."""
    return tuple(
        Correction(str(judgement.value), weight, part, person_of(judgement))
        for judgement, trusted, part in zip(judgements, trust, heard, strict=True)
        if judgement.name == "correction" and (weight := trusted * judgement.share) > 0
    )


def comments_of(judgements: Sequence[Judgement], trust: Sequence[float]) -> tuple[str, ...]:
    """What people say in words of an answer that they dislike, comments and rationales, each text once:
    of those alone whose verdict counts."""
    dislikes = [
        judgement
        for judgement, trusted in zip(judgements, trust, strict=True)
        if trusted > 0
        and judgement.name in VERDICTS
        and (worth := worth_of(judgement)) is not None
        and worth.value < 0
    ]
    people = {(judgement.tenant, judgement.user) for judgement in dislikes}
    said = [str(j.rationale) for j in dislikes if j.rationale]
    said += [
        str(judgement.value)
        for judgement in judgements
        if judgement.name == "comment" and (judgement.tenant, judgement.user) in people
    ]
    return tuple(dict.fromkeys(said))


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be in parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or part.get("refusal") or "" for part in content)


def asked_chats(session: Session, interactions: Sequence[str]) -> dict[str, AskedChat]:
    """The chats of these interactions, by id; without those that were no chats."""
    found: dict[str, AskedChat] = {}
    for part in slices(interactions):
        query = select(InteractionRow.id, InteractionRow.messages, InteractionRow.tools)
        for id, messages, tools in session.execute(query.where(InteractionRow.id.in_(part))):
            if messages:
                found[id] = AskedChat(messages, tools)
    return found


def prompts(session: Session, policy: str, limit: int) -> list[LoggedPrompt]:
    """The prompts most lately asked, judged or not, newest first and each once."""
    query = (
        select(InteractionRow.prompt_ids, InteractionRow.tenant, InteractionRow.user)
        .where(InteractionRow.policy == policy)
        .order_by(InteractionRow.time.desc())
        .limit(limit)
    )
    found: dict[tuple[int, ...], LoggedPrompt] = {}
    for ids, tenant, user in session.execute(query):
        if ids:
            found.setdefault(tuple(ids), LoggedPrompt(tuple(ids), tenant, user))
    return list(found.values())


def count(session: Session, policy: str, limit: int | None = None) -> int:
    """How many judged answers a policy has; counted no further than `limit`."""
    rows = (
        select(ExperienceRow.choice)
        .where(ExperienceRow.policy == policy)
        .order_by(ExperienceRow.judged_at.desc())  # by its index
        .limit(limit)
    )
    return session.scalar(select(func.count()).select_from(rows.subquery())) or 0


def high_water(session: Session, policy: str) -> int:
    """The number of the newest judgement that counts for a policy; 0 when there is none."""
    query = select(func.max(CreditRow.seq)).where(CreditRow.policy == policy)
    return session.scalar(query) or 0


def known(session: Session, policy: str) -> str:
    """Names the judgements that count for a policy: another name once any has come, changed or gone."""
    query = select(func.max(CreditRow.seq), func.count()).where(CreditRow.policy == policy)
    newest, count = session.execute(query).one()
    return f"{newest or 0}/{count}"


def newest_version(session: Session, policy: str) -> int:
    """The newest version that a judged answer is of; 0 when there is none."""
    query = select(func.max(ExperienceRow.version)).where(ExperienceRow.policy == policy)
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
