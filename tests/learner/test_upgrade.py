"""Databases that earlier versions wrote, of every version of the schema, are taken over as they are.

schemas/NUMBER.sql is what the code of that version left of the same events: three answers, one of them
in a session; votes on two and on the session, one on an answer that never came, and one taken back.
"""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from burnish.learner.database import NEWEST, Database, alembic_config, is_newest
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward import experience
from burnish.learner.tables import AttemptRow, ExperienceRow, UnmatchedRow, VersionEventRow
from sqlalchemy import select, text

from tests.learner.conftest import interaction, thumbs

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.sql"))


@pytest.fixture(params=SCHEMAS, ids=[path.stem for path in SCHEMAS])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder's database, as that version left it."""
    path = tmp_path / "experience.db"
    with sqlite3.connect(path) as file:
        file.executescript(request.param.read_text())
        found = file.execute("SELECT version_num FROM alembic_version").fetchone()
    file.close()
    assert found == (request.param.stem,)
    return path


def test_every_earlier_version_has_its_database():
    assert [path.stem for path in SCHEMAS] == [f"{n:04}" for n in range(1, int(NEWEST))]


def test_what_an_earlier_version_wrote_counts_on(old: Path):
    database = Database(f"sqlite:///{old}")
    database.migrate()
    with database.read() as session:
        judged = {
            (row.interaction_id, row.choice) for row in session.scalars(select(ExperienceRow))
        }
        waiting = [row.id for row in session.scalars(select(UnmatchedRow))]
        attempt = session.get(AttemptRow, "a1")
        lineage = session.get(VersionEventRow, ("default", 2, "local/fb-0001"))
        answers = experience.load(session, "default", champion=2, limit=10, max_staleness=10)
    assert judged == {("chatcmpl-0001", 0), ("chatcmpl-0003", 0)}
    assert waiting == ["fb-0004"]
    assert attempt is not None
    assert (attempt.version, attempt.tries) == (2, 0)
    assert lineage is not None
    assert [answer.token_ids for answer in answers] == [(4, 5), (4, 5)]
    database.close()


def test_it_takes_events_in_and_recognises_those_it_has(old: Path):
    database = Database(f"sqlite:///{old}")
    database.migrate()
    with database.write() as session:
        counts = upsert(session, [interaction(1), thumbs(1), interaction(9), thumbs(9)])
    assert (counts.repeats, counts.interactions, counts.judgements) == (2, 1, 1)
    with database.read() as session:
        assert not session.scalars(select(UnmatchedRow)).all()
    database.close()


def test_it_goes_back_to_the_version_that_wrote_it(old: Path):
    database = Database(f"sqlite:///{old}")
    with database.engine.connect() as connection:
        number = connection.scalar(text("SELECT version_num FROM alembic_version"))
    database.migrate()
    with database.engine.begin() as connection:
        assert is_newest(connection)
        command.downgrade(alembic_config(connection), str(number))
        assert connection.scalar(text("SELECT count(*) FROM experience")) == 2
    database.close()


def test_whom_an_earlier_version_erased_stays_out(tmp_path: Path):
    path = tmp_path / "experience.db"
    with sqlite3.connect(path) as file:
        file.executescript((Path(__file__).parent / "schemas" / "0004.sql").read_text())
    file.close()
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with database.write() as session:
        counts = upsert(session, [interaction(0, user="eve"), interaction(7, user="eve")])
    assert (counts.erased, counts.interactions) == (1, 1), (
        "what came before it, and what came after"
    )
    database.close()
