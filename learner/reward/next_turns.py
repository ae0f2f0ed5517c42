"""What people said next: the user's turn that followed an answer.

It is the next interaction of the same session, if that holds the answer; without a session, the first
later prompt of the same user that begins with this prompt and answer, token for token. A turn that was asked
again or edited follows nothing. Beside it the answers that nobody judged, for whom alone it matters. Left
out: which of several choices a session went on from; only the first is looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from burnish.learner.intake.joining import slices
from burnish.learner.reward.experience import JudgedAnswer, text_of
from burnish.learner.tables import CompletionRow, ExperienceRow, InteractionRow
from sqlalchemy import Text, case, cast, select
from sqlalchemy.orm import Session

WINDOW = 4096  # latest interactions of a policy, among which turns are looked for


@dataclass(frozen=True)
class NextTurn:
    """What a user said after an answer; `time` in seconds since the epoch."""

    text: str
    user: str | None
    time: float


class _Asked(NamedTuple):
    """Of an interaction what finding takes."""

    id: str
    tenant: str
    user: str | None
    session_id: str | None
    time: float
    prompt_ids: tuple[int, ...]


def next_turns(
    session: Session, policy: str, answers: Sequence[JudgedAnswer]
) -> dict[str, NextTurn]:
    """By interaction, what followed the first choice of those answers that something followed."""
    asked = _latest(session, policy)
    own = {row.id: row for row in asked}
    of_sessions, begun = _by_session(asked), _by_prompt(asked)
    found: dict[str, _Asked] = {}
    for answer in answers:
        row = own.get(answer.interaction_id)
        if row is None or answer.choice:
            continue
        if row.session_id is not None:
            following = _later(of_sessions[row.tenant, row.session_id], row)
        else:
            following = _going_on(begun, row, (*row.prompt_ids, *answer.token_ids))
        if following is None or following.user != row.user:
            continue
        if following.prompt_ids != row.prompt_ids:
            found[row.id] = following
    messages = _messages(session, [row.id for row in found.values()])
    texts = _texts(session, [id for id in found if own[id].session_id is not None])
    return {
        id: NextTurn(text, row.user, row.time)
        for id, row in found.items()
        if (text := _said(messages[row.id], texts.get(id)))
    }


def unjudged(
    session: Session, policy: str, *, champion: int, limit: int, max_staleness: int
) -> list[JudgedAnswer]:
    """Of the latest `limit` answers of a policy those that nobody judged, oldest first."""
    logprobs = case(
        (cast(CompletionRow.processed_logprobs, Text) == "[]", CompletionRow.logprobs),
        else_=CompletionRow.processed_logprobs,
    )
    query = (
        select(
            InteractionRow.id,
            InteractionRow.version,
            InteractionRow.tenant,
            InteractionRow.user,
            InteractionRow.time,
            InteractionRow.prompt_ids,
            CompletionRow.token_ids,
            logprobs.label("logprobs"),
            ExperienceRow.interaction_id.label("judged"),
        )
        .join(
            CompletionRow,
            (CompletionRow.interaction_id == InteractionRow.id) & (CompletionRow.choice == 0),
        )
        .outerjoin(
            ExperienceRow,
            (ExperienceRow.interaction_id == InteractionRow.id) & (ExperienceRow.choice == 0),
        )
        .where(InteractionRow.policy == policy)
        .order_by(InteractionRow.time.desc())
        .limit(limit)
    )
    return [
        JudgedAnswer(
            interaction_id=row.id,
            choice=0,
            version=row.version,
            staleness=max(0, champion - row.version),
            tenant=row.tenant,
            user=row.user,
            prompt_ids=tuple(row.prompt_ids),
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            judged_at=row.time,
        )
        for row in session.execute(query)
        if row.judged is None
        and row.version >= champion - max_staleness
        and row.prompt_ids
        and row.token_ids
    ][::-1]


def _latest(session: Session, policy: str) -> list[_Asked]:
    """Oldest first."""
    query = (
        select(*(getattr(InteractionRow, name) for name in _Asked._fields))
        .where(InteractionRow.policy == policy)
        .order_by(InteractionRow.time.desc(), InteractionRow.id)
        .limit(WINDOW)
    )
    rows = [_Asked._make((*row[:-1], tuple(row[-1]))) for row in session.execute(query)]
    return rows[::-1]


def _by_session(asked: Sequence[_Asked]) -> dict[tuple[str, str], list[_Asked]]:
    found: dict[tuple[str, str], list[_Asked]] = defaultdict(list)
    for row in asked:
        if row.session_id is not None:
            found[row.tenant, row.session_id].append(row)
    return found


def _later(of_session: Sequence[_Asked], row: _Asked) -> _Asked | None:
    place = bisect_right(of_session, row.time, key=lambda other: other.time)
    return of_session[place] if place < len(of_session) else None


def _key(row: _Asked) -> tuple[str, str]:
    return row.tenant, row.user or ""


def _by_prompt(asked: Sequence[_Asked]) -> list[tuple[tuple[str, str], tuple[int, ...], _Asked]]:
    """In the order of the prompts, in which those that begin alike stand together."""
    named = [(_key(row), row.prompt_ids, row) for row in asked]
    return sorted(named, key=lambda entry: entry[:2])


def _going_on(
    begun: Sequence[tuple[tuple[str, str], tuple[int, ...], _Asked]],
    row: _Asked,
    said: tuple[int, ...],
) -> _Asked | None:
    """The first later interaction of the same user whose prompt begins with what was `said` so far."""
    place = bisect_left(begun, (_key(row), said), key=lambda entry: entry[:2])
    following: list[_Asked] = []
    for who, prompt, other in begun[place:]:
        if who != _key(row) or prompt[: len(said)] != said:
            break
        if other.time > row.time:
            following.append(other)
    return min(following, key=lambda other: other.time, default=None)


def _messages(session: Session, ids: Sequence[str]) -> dict[str, Sequence[Mapping[str, Any]]]:
    found: dict[str, Sequence[Mapping[str, Any]]] = {}
    for part in slices(list(dict.fromkeys(ids))):
        query = select(InteractionRow.id, InteractionRow.messages).where(
            InteractionRow.id.in_(part)
        )
        found.update({id: messages for id, messages in session.execute(query)})
    return found


def _texts(session: Session, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in slices(ids):
        query = select(CompletionRow.interaction_id, CompletionRow.text).where(
            CompletionRow.interaction_id.in_(part), CompletionRow.choice == 0
        )
        found.update({id: text for id, text in session.execute(query)})
    return found


def _said(messages: Sequence[Mapping[str, Any]], answer: str | None) -> str | None:
    """The user's words that end these messages, where they come after the `answer`, if one is given."""
    if len(messages) < 2 or messages[-1].get("role") != "user":
        return None
    if answer is not None:
        before = text_of(messages[-2]).strip()
        if messages[-2].get("role") != "assistant" or not before or before not in answer:
            return None
    return text_of(messages[-1]).strip() or None
