"""A large experience database, made by the server itself: what a year of a busy product leaves behind.

Users come in blocks of eight interactions; two blocks in five are a session. The busiest user of
100,000 has a few thousand interactions, most have some dozens. Of the judgements one in twelve is on a
session, the others on one answer each. Every table is filled as the intake would have done it, which
`disagreements` proves on a sample; texts and numbers repeat, ids do not.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from burnish.learner.database import Database
from burnish.learner.intake.joining import refresh
from burnish.learner.tables import FEATURES, CreditRow, ExperienceRow, InteractionRow
from sqlalchemy import Connection, select, text
from sqlalchemy.orm import Session

POLICY = "default"
CHAMPION = 500  # versions that the policy went through meanwhile
NEW = 2_000  # judgements that the champion has not learnt from
UNMATCHED = 5_000  # judgements whose answer never came
FEATURE_BYTES = 2 * (3 * 256 + 14)  # of ember, in float16: hidden states and manner
BASE = "f" * 64
YEAR = 365 * 86400.0
START = 1.75e9
POOL = 512  # different contents
TABLES = (
    "interaction", "completion", "judgement", "experience", "credit", "feature", "version_event",
)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How many rows; `features` of the latest judged answers are computed."""

    interactions: int
    judgements: int
    features: int = 200_000


def fill(database: Database, size: Size) -> None:
    """Fill the empty tables of a migrated PostgreSQL database, and gather the planner's statistics."""
    with database.engine.begin() as connection:
        indexes = _drop_indexes(connection)
        _pool(connection)
        connection.execute(text(f"TRUNCATE {', '.join(TABLES)}"))  # or every row is logged as well
        for statement in _statements(size):
            connection.execute(text(statement))
        for statement in indexes:
            connection.execute(text(statement))
        connection.execute(text("DROP TABLE pool"))
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))


def disagreements(session: Session, sample: int = 400) -> int:
    """How many of some answers' rows the intake would have written differently. Changes nothing that
    is to stay: roll back."""
    ids = (
        session.scalars(select(ExperienceRow.interaction_id).limit(sample // 2)).all()
        + session.scalars(select(InteractionRow.id).limit(sample // 2)).all()
    )  # type: ignore[operator]

    def stored() -> set[tuple[Any, ...]]:
        session.expire_all()
        found: set[tuple[Any, ...]] = set()
        for table in (ExperienceRow, CreditRow):
            columns = [c for c in table.__table__.columns]
            query = select(*columns).where(table.interaction_id.in_(ids))
            found |= {(table.__tablename__, *row) for row in session.execute(query)}
        return found

    before = stored()
    refresh(session, ids)
    return len(before ^ stored())


def busiest_users(session: Session) -> list[tuple[str, str, int]]:
    """Tenant, user and number of interactions: the busiest one, and one in the middle."""
    query = text(
        'SELECT tenant, "user", count(*) FROM interaction GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2'
    )
    users = session.execute(query).all()
    return [(row[0], row[1], row[2]) for row in (users[0], users[len(users) // 2])]


def _drop_indexes(connection: Connection) -> list[str]:
    """Drop indexes and primary keys of what is filled; returns the statements that make them again.
    Building one at the end costs a fraction of keeping it while rows come."""
    again = []
    names = {"names": list(TABLES)}
    keys = connection.execute(
        text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'p' AND conrelid::regclass::text = ANY(:names)"
        ),
        names,
    ).all()
    for table, name, definition in keys:
        connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
        again.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    left = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(:names)"), names
    ).all()
    for name, definition in left:
        connection.execute(text(f"DROP INDEX {name}"))
        again.append(definition)
    return again


def _pool(connection: Connection) -> None:
    """Contents to choose from: prompts of 32 tokens, answers of 16 to 32."""
    connection.execute(
        text(
            "CREATE TABLE pool (n int, messages json, prompt_ids json, token_ids json,"
            " logprobs json, answer text, vector bytea)"
        )
    )
    draw = random.Random(0)

    def row(n: int) -> dict[str, Any]:
        length = draw.randint(16, 32)
        content = " ".join(f"word{draw.randrange(500)}" for _ in range(24))
        return {
            "n": n,
            "messages": json.dumps([{"role": "user", "content": content}]),
            "prompt_ids": json.dumps([draw.randrange(800) for _ in range(32)]),
            "token_ids": json.dumps([draw.randrange(800) for _ in range(length)]),
            "logprobs": json.dumps([-draw.random() for _ in range(length)]),
            "answer": " ".join(f"word{draw.randrange(500)}" for _ in range(length // 2)),
            "vector": draw.randbytes(FEATURE_BYTES),
        }

    connection.execute(
        text(
            "INSERT INTO pool VALUES (:n, :messages, :prompt_ids, :token_ids, :logprobs, :answer,"
            " :vector)"
        ),
        [row(n) for n in range(POOL)],
    )
    connection.execute(text("ANALYZE pool"))


# Of interaction i, in block b = i / 8.
_ID = "'chatcmpl-' || md5({i}::text)"
_TIME = "({start}::float8 + ({i}) * {step}::float8)"
_TENANT = "'tenant-' || ({b}) % 4"
_USER = (
    "'user-' || floor(25000 * power((('x' || left(md5('u' || ({b})::text), 8))::bit(32)::bigint)"
    "::float8 / 4294967296, 1.5))::int"
)
_SESSION = "CASE WHEN ({b}) % 5 < 2 THEN 'session-' || ({b}) END"
_POLICY = (
    "CASE WHEN ({b}) % 10 < 7 THEN 'default' WHEN ({b}) % 10 < 9 THEN 'shop' ELSE 'support' END"
)
_VERSION = "1 + ({i} * {champion} / {n})::int"


def _statements(size: Size) -> list[str]:
    n = size.interactions
    step = YEAR / n
    blocks = n // 8
    # Sessions of every fifth block are judged as such; answers in the other blocks by themselves.
    on_sessions = min(size.judgements // 12, blocks // 5)
    single = size.judgements - on_sessions
    free = blocks // 5 * 4 * 8  # answers in the other blocks
    if single > free:
        raise ValueError(f"--judgements: at most {free + on_sessions} fit {n} interactions")

    def of(form: str, i: str = "i") -> str:
        return form.format(i=i, b=f"{i} / 8", start=START, step=step, n=n, champion=CHAMPION)

    # The j-th judged answer: evenly over the year, in the blocks 1 to 4 of each five.
    spread = f"(j * {free}::bigint / {single})"
    answer = f"(({spread} / 32) * 40 + 8 + {spread} % 32)"
    up = "CASE WHEN {0} % 3 = 0 THEN 'down' ELSE 'up' END"
    # A judgement's number: by time, those of sessions among those of answers.
    number = f"(k * {single}::bigint / {max(on_sessions, 1)}) * 2 + 2"
    block = f"((k * {blocks // 5}::bigint / {max(on_sessions, 1)}) * 5)"
    event = "{tenant} || '/fb-' || md5('{kind}' || {x}::text)"
    on_answer = event.format(tenant=of(_TENANT, "i"), kind="j", x="j")
    on_session = event.format(tenant=of(_TENANT, "i"), kind="k", x="k")
    judged = f"(SELECT j, {answer} AS i FROM generate_series(0, {single - 1}::bigint) j) d"
    sessions = (
        f"(SELECT k, {block} * 8 AS i FROM generate_series(0, {on_sessions - 1}::bigint) k) s"
    )
    answers = (
        f"(SELECT k, {block} * 8 + a AS i FROM generate_series(0, {on_sessions - 1}::bigint) k,"
        " generate_series(0, 7) a) s"
    )
    learnt = 2 * (single - NEW)
    unmatched = f"generate_series(1, {UNMATCHED}) u"
    # A comment says nothing about good or bad: one judgement in twenty.
    verdict = "j % 20 <> 0"
    given = 'tenant, id, revision, time, "user", key_id, interaction_id, session_id, choice, name, value, metadata'
    experience = 'interaction_id, choice, policy, version, tenant, "user", judged_at'
    return [
        'INSERT INTO interaction (id, time, tenant, "user", session_id, policy, version, messages,'
        " prompt_ids, sampling, memories, metadata)"
        f" SELECT {of(_ID)}, {of(_TIME)}, {of(_TENANT)}, {of(_USER)}, {of(_SESSION)}, {of(_POLICY)},"
        f" {of(_VERSION)}, messages, prompt_ids, '{{\"temperature\": 1.0}}', '[]', '{{}}'"
        f" FROM generate_series(0, {n - 1}::bigint) i JOIN pool ON pool.n = i % {POOL}",
        "INSERT INTO completion (interaction_id, choice, token_ids, logprobs, processed_logprobs,"
        f" text, finish_reason) SELECT {of(_ID)}, 0, token_ids, logprobs, logprobs, answer, 'stop'"
        f" FROM generate_series(0, {n - 1}::bigint) i JOIN pool ON pool.n = i % {POOL}",
        f"INSERT INTO judgement ({given}) SELECT {of(_TENANT)}, 'fb-' || md5('j' || j::text), 0,"
        f" {of(_TIME)} + 30, {of(_USER)}, 'key-' || i / 8 % 4, {of(_ID)}, NULL, 0,"
        f" CASE WHEN {verdict} THEN 'thumbs' ELSE 'comment' END,"
        f" to_json(CASE WHEN {verdict} THEN {up.format('j')} ELSE 'too long for me' END), '{{}}'"
        f" FROM {judged}",
        f"INSERT INTO judgement ({given}) SELECT {of(_TENANT)}, 'fb-' || md5('k' || k::text), 0,"
        f" {of(_TIME)} + 600, {of(_USER)}, 'key-' || i / 8 % 4, NULL, 'session-' || i / 8, 0, 'thumbs',"
        f" to_json({up.format('k')}), '{{}}' FROM {sessions}",
        f"INSERT INTO experience ({experience}) SELECT {of(_ID)}, 0, {of(_POLICY)}, {of(_VERSION)},"
        f" {of(_TENANT)}, {of(_USER)}, {of(_TIME)} + 30 FROM {judged} WHERE {verdict}",
        f"INSERT INTO experience ({experience}) SELECT {of(_ID)}, 0, {of(_POLICY)}, {of(_VERSION)},"
        f" {of(_TENANT)}, {of(_USER)}, {of(_TIME, 'i / 8 * 8')} + 600 FROM {answers}",
        "INSERT INTO credit (interaction_id, choice, event, policy, seq)"
        f" SELECT {of(_ID)}, 0, {on_answer}, {of(_POLICY)}, j * 2 + 1 FROM {judged} WHERE {verdict}",
        "INSERT INTO credit (interaction_id, choice, event, policy, seq)"
        f" SELECT {of(_ID)}, 0, {on_session}, {of(_POLICY)}, {number} FROM {answers}",
        f"INSERT INTO counter (name, value) VALUES ('credit', {2 * single + 2})",
        "INSERT INTO feature (interaction_id, choice, base_sha256, vector)"
        f" SELECT interaction_id, choice, '{BASE}/{FEATURES}', vector FROM (SELECT interaction_id, choice,"
        " row_number() OVER () AS r FROM (SELECT interaction_id, choice FROM experience"
        f" ORDER BY judged_at DESC LIMIT {size.features}) latest) e JOIN pool ON pool.n = r % {POOL}",
        "INSERT INTO version_event (policy, version, event)"
        f" SELECT DISTINCT policy, 1 + (seq * {CHAMPION - 1} / {2 * single + 2})::int, event"
        f" FROM credit WHERE seq <= {learnt}",
        "INSERT INTO attempt (id, policy, state, parent, high_water, started_at, version, tries)"
        f" VALUES ('bench', '{POLICY}', 'finished', {CHAMPION - 1}, {learnt}, {START + YEAR},"
        f" {CHAMPION}, 1)",
        f"INSERT INTO judgement ({given}) SELECT 'tenant-0', 'lost-' || u, 0, {START} + u, 'lost', NULL,"
        f" 'chatcmpl-lost-' || u, NULL, 0, 'thumbs', to_json('up'::text), '{{}}' FROM {unmatched}",
        f"INSERT INTO unmatched SELECT 'tenant-0', 'lost-' || u, {START} + u FROM {unmatched}",
    ]  # fmt: skip
