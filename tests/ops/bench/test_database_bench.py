"""The database benchmark on a few thousand rows: what it fills is what the intake would have written."""

import pytest
from burnish.learner.database import Database
from burnish.learner.tables import CreditRow, JudgementRow
from burnish.ops.bench.lib.filled_database import Size, busiest_users, disagreements, fill
from burnish.ops.bench.lib.plans import scanned, watched
from sqlalchemy import func, select, text


@pytest.fixture
def filled(postgres_url: str) -> Database:
    database = Database(postgres_url)
    database.migrate()
    fill(database, Size(8_000, 2_400, features=100))
    return database


def test_what_is_filled_is_what_the_intake_would_have_written(filled: Database):
    with filled.read() as session:
        assert disagreements(session) == 0
        session.rollback()
        given = session.scalar(select(func.count()).select_from(JudgementRow))
        assert given == 2_400 + 5_000  # those whose answer never came beside them
        assert (session.scalar(select(func.count()).select_from(CreditRow)) or 0) > 2_400
        busiest, middling = busiest_users(session)
        assert busiest[2] >= middling[2] > 0
    filled.close()


def test_a_disagreement_is_found(filled: Database):
    with filled.read() as session:
        session.execute(text("UPDATE credit SET event = 'tenant-0/other'"))
        assert disagreements(session) > 0
    filled.close()


def test_too_many_judgements_are_refused(postgres_url: str):
    database = Database(postgres_url)
    database.migrate()
    with pytest.raises(ValueError, match="--judgements: at most"):
        fill(database, Size(1_000, 1_000))
    database.close()


def test_a_statement_that_reads_a_large_table_whole_is_found(filled: Database):
    with watched(filled.engine) as statements, filled.read() as session:
        session.scalars(select(JudgementRow.id).where(JudgementRow.name == "thumbs")).all()
        session.scalars(select(JudgementRow.id).where(JudgementRow.interaction_id == "x")).all()
    (found,) = statements.scans(filled.engine, ["judgement"])
    assert found.startswith("judgement: SELECT judgement.id")
    assert "judgement.name" in found
    filled.close()


def test_an_index_read_from_end_to_end_counts_unless_a_limit_ends_it():
    scan = {"Node Type": "Index Scan", "Relation Name": "credit"}
    assert list(scanned(scan)) == ["credit"]
    assert list(scanned({"Node Type": "Limit", "Plans": [scan]})) == []
    sort = {"Node Type": "Sort", "Plans": [scan]}
    assert list(scanned({"Node Type": "Limit", "Plans": [sort]})) == ["credit"]
    assert list(scanned({**scan, "Index Cond": "(seq > 5)"})) == []
