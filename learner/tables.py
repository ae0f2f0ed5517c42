"""The experience database's tables: what arrived, what was joined, and which version learnt from it.

Times are seconds since the epoch, because SQLite has no timestamps with a zone. Rows join by value,
without foreign keys: feedback may arrive before its interaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, Index, LargeBinary, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    # Named constraints, so that a later migration can drop them on either database.
    metadata = MetaData(
        naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(column_0_label)s"}
    )
    type_annotation_map = {
        float: Double,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        Any: JSON,
        bytes: LargeBinary,
    }


class InteractionRow(Base):
    __tablename__ = "interaction"
    __table_args__ = (
        Index("ix_interaction_session", "tenant", "session_id"),
        Index("ix_interaction_policy", "policy", "time"),
        Index("ix_interaction_user", "tenant", "user"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float] = mapped_column(index=True)
    tenant: Mapped[str]
    user: Mapped[str | None]
    session_id: Mapped[str | None]
    policy: Mapped[str]
    version: Mapped[int]
    messages: Mapped[list[Any]]
    tools: Mapped[list[Any] | None]
    prompt_ids: Mapped[list[Any]]
    sampling: Mapped[dict[str, Any]]
    memories: Mapped[list[Any]]
    meta: Mapped[dict[str, Any]] = mapped_column("metadata")


class CompletionRow(Base):
    __tablename__ = "completion"
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token_ids: Mapped[list[Any]]
    logprobs: Mapped[list[Any]]
    processed_logprobs: Mapped[list[Any]]
    text: Mapped[str] = mapped_column(Text)
    finish_reason: Mapped[str]
    tool_calls: Mapped[list[Any] | None]


class ArmRow(Base):
    """Where a canary had the end user of an interaction, by a salted hash of theirs, and how long the answer
    took."""

    __tablename__ = "arm"
    __table_args__ = (Index("ix_arm_canary", "policy", "challenger", "subject"),)
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str]
    challenger: Mapped[int]
    name: Mapped[str]
    subject: Mapped[str]
    seconds: Mapped[float | None]


class JudgementRow(Base):
    """The last feedback event of those sent under one id, by (`time`, `revision`). `key_id`: of the
    API key that sent it."""

    __tablename__ = "judgement"
    __table_args__ = (
        Index("ix_judgement_interaction", "interaction_id"),
        Index("ix_judgement_session", "tenant", "session_id"),
        Index("ix_judgement_user", "tenant", "user"),
    )
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    time: Mapped[float] = mapped_column(index=True)
    user: Mapped[str | None]
    key_id: Mapped[str | None]
    interaction_id: Mapped[str | None]
    session_id: Mapped[str | None]
    choice: Mapped[int]
    name: Mapped[str]
    value: Mapped[Any]
    rationale: Mapped[str | None] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata")


class RetractionRow(Base):
    """Kept apart from the judgement, since it may arrive first: what was given under this id until
    `time` is taken back."""

    __tablename__ = "retraction"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    feedback_id: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[float]


class UnmatchedRow(Base):
    """A judgement whose answer or session has not arrived (yet): since when it waits."""

    __tablename__ = "unmatched"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float] = mapped_column(index=True)


class ErasureRow(Base):
    """An end user whose data was erased, by pseudonym (feedback/stream/user_keys.py): events of theirs up to
    `until` are not taken in any more."""

    __tablename__ = "erasure"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[float]


class ErasureReceiptRow(Base):
    """What one erasure removed: store -> kind -> how many. `since` has the time of their first event by policy,
    `held` the versions by policy whose training saw any. `state`: `weights` while those may still be served."""

    __tablename__ = "erasure_receipt"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    person: Mapped[str]
    at: Mapped[float]
    state: Mapped[str] = mapped_column(index=True)
    removed: Mapped[dict[str, Any]]
    since: Mapped[dict[str, Any]]
    held: Mapped[dict[str, Any]]


class ExperienceRow(Base):
    """An answer on which a judgement stands: a pure function of the tables above."""

    __tablename__ = "experience"
    __table_args__ = (Index("ix_experience_policy", "policy", "judged_at"),)
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    policy: Mapped[str]
    version: Mapped[int]
    tenant: Mapped[str]
    user: Mapped[str | None]
    judged_at: Mapped[float]


class CreditRow(Base):
    """Which judgement (as `tenant/id`, with `#revision` when revised) made which experience.

    `seq` numbers the judgements in the order in which they first counted for a policy.
    """

    __tablename__ = "credit"
    __table_args__ = (Index("ix_credit_policy", "policy", "seq"),)
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str] = mapped_column(primary_key=True, index=True)
    policy: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger, index=True)


FEATURES = (
    "middle+manner"  # what features are of: the base at half its depth, and the answer's text
)


class FeatureRow(Base):
    """What the frozen base makes of a judged answer, as float16; computed once per base."""

    __tablename__ = "feature"
    interaction_id: Mapped[str] = mapped_column(primary_key=True)
    choice: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    base_sha256: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[bytes]


class OffsetRow(Base):
    __tablename__ = "stream_offset"
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[str]


class FenceRow(Base):
    """The highest fencing token that ever wrote under a lease's name."""

    __tablename__ = "fence"
    name: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger)


class AttemptRow(Base):
    """One attempt at a new version, so that a killed one is taken up where it stood."""

    __tablename__ = "attempt"
    id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    parent: Mapped[int]
    high_water: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[float]
    version: Mapped[int | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    problem: Mapped[str | None] = mapped_column(Text)


class CanaryRow(Base):
    """A challenger's canary: against which champion, how far it came, and what became of it. `state`: running,
    promoted, withdrawn, ended (the champion stayed) or outside (somebody moved the aliases)."""

    __tablename__ = "canary"
    __table_args__ = (Index("ix_canary_policy", "policy", "state"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str]
    version: Mapped[int]
    champion: Mapped[int]
    salt: Mapped[str]
    share: Mapped[float]
    state: Mapped[str]
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    why: Mapped[str] = mapped_column(Text)
    figures: Mapped[dict[str, Any]]


class CanaryObservationRow(Base):
    """What was seen of one end user of a canary, once for each metric, in the order in which it counts. `subject` is
    taken from it when the canary has ended, or the user is erased."""

    __tablename__ = "canary_observation"
    __table_args__ = (Index("ix_canary_observation_subject", "canary_id", "metric", "subject"),)
    canary_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    metric: Mapped[str]
    arm: Mapped[str]
    value: Mapped[float]
    subject: Mapped[str | None]


class VersionEventRow(Base):
    """Lineage: the judgements that were new to a version. Along one line of ancestors every
    judgement stands once."""

    __tablename__ = "version_event"
    policy: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str] = mapped_column(primary_key=True, index=True)


class TickRow(Base):
    __tablename__ = "tick"
    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    policy: Mapped[str]
    at: Mapped[float] = mapped_column(index=True)
    seconds: Mapped[float]
    did: Mapped[str] = mapped_column(Text)
    why_not: Mapped[str | None] = mapped_column(Text)
    counts: Mapped[dict[str, Any]]


class AlarmReadingRow(Base):
    """What an alarm's measure of a version came to over one epoch, which began at `since`: `value` between
    `low` and `high`, in `unit`. `whole`: the next epoch begins at `until`."""

    __tablename__ = "alarm_reading"
    __table_args__ = (Index("ix_alarm_reading_policy", "policy", "at"),)
    policy: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float] = mapped_column(primary_key=True)
    at: Mapped[float]
    until: Mapped[float]
    whole: Mapped[bool]
    state: Mapped[str]
    count: Mapped[int]
    value: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    reference: Mapped[float | None]
    allowed: Mapped[str]
    unit: Mapped[str]
    says: Mapped[str] = mapped_column(Text)


class AlarmRow(Base):
    """An alarm from when it opened; `closed_at` is null while it is open."""

    __tablename__ = "alarm"
    __table_args__ = (Index("ix_alarm_policy", "policy", "opened_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str]
    version: Mapped[int]
    name: Mapped[str]
    opened_at: Mapped[float]
    closed_at: Mapped[float | None]
    says: Mapped[str] = mapped_column(Text)
    closed_because: Mapped[str | None] = mapped_column(Text)
    silenced_until: Mapped[float | None]
    silenced_by: Mapped[str | None]
    silenced_because: Mapped[str | None] = mapped_column(Text)


class ReleaseRow(Base):
    """A rater, by pseudonym (feedback/stream/user_keys.py), whom an admin has let out of quarantine: what they gave
    until `until` counts as anyone's. `key_id` is empty where no API key is known."""

    __tablename__ = "quarantine_release"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[float]
    who: Mapped[str]
    why: Mapped[str] = mapped_column(Text)


class CounterRow(Base):
    """Numbers rows in the order they were committed; a database sequence would leave gaps that
    fill in late, and a reader's high-water mark would step over them."""

    __tablename__ = "counter"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
