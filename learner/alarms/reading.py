"""Reads what alarms look at: a version's answers, and the latest ones of the versions before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from burnish.learner.alarms.tool_calls import failed
from burnish.learner.gate.manner import opener_of
from burnish.learner.report.style import asks, refuses
from burnish.learner.tables import CompletionRow, InteractionRow
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

CANCELLED = "cancelled"  # answers that somebody broke off are no shorter for that


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`time` in seconds since the epoch; `entropy` in nats per token, as sampled; `failed` None where it called
    no tool; `opener` its first words."""

    time: float
    tokens: int
    entropy: float
    refuses: bool
    asks: bool
    failed: bool | None = None
    opener: str | None = None


def newest_answer(session: Session, policy: str) -> str | None:
    """Names the latest answer of a policy: another one once another has come."""
    query = (
        select(InteractionRow.id)
        .where(InteractionRow.policy == policy)
        .order_by(InteractionRow.time.desc(), InteractionRow.id)
        .limit(1)
    )
    return session.scalars(query).first()


def answers_since(
    session: Session, policy: str, version: int, since: float, limit: int
) -> list[Answer]:
    """The first `limit` answers of a version after that time, oldest first."""
    of_version = InteractionRow.version == version
    return _answers(session, policy, of_version & (InteractionRow.time > since), limit)


def answers_before(session: Session, policy: str, version: int, limit: int) -> list[Answer]:
    """The latest `limit` answers of the versions before a version, oldest first."""
    earlier = InteractionRow.version < version
    return _answers(session, policy, earlier, limit, latest=True)


def _answers(
    session: Session, policy: str, which: ColumnElement[bool], limit: int, latest: bool = False
) -> list[Answer]:
    order = InteractionRow.time.desc() if latest else InteractionRow.time
    query = (
        select(
            InteractionRow.time,
            InteractionRow.tools,
            CompletionRow.text,
            CompletionRow.logprobs,
            CompletionRow.tool_calls,
            func.json_array_length(CompletionRow.token_ids).label("tokens"),
        )
        .join(CompletionRow, CompletionRow.interaction_id == InteractionRow.id)
        .where(InteractionRow.policy == policy, which, CompletionRow.finish_reason != CANCELLED)
        .order_by(order, InteractionRow.id, CompletionRow.choice)
        .limit(limit)
    )
    found = [_answer(row) for row in session.execute(query)]
    return found[::-1] if latest else found


def _answer(row: Any) -> Answer:
    return Answer(
        time=row.time,
        tokens=row.tokens,
        entropy=-sum(row.logprobs) / max(1, len(row.logprobs)),
        refuses=refuses(row.text),
        asks=asks(row.text),
        failed=failed(row.text, row.tool_calls, row.tools),
        opener=opener_of(row.text),
    )
