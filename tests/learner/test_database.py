import multiprocessing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from burnish.learner.database import NEWEST, Database, alembic_config, is_newest, next_seq
from burnish.learner.intake.upsert import upsert
from burnish.learner.lease import LeaseLost, admit
from burnish.learner.tables import Base, ExperienceRow, FenceRow
from sqlalchemy import select

from tests.learner.conftest import interaction, thumbs


def test_migrations_build_exactly_what_the_models_describe(database: Database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_twice_changes_nothing(database: Database):
    with database.engine.connect() as connection:
        assert is_newest(connection)
    database.migrate()


def test_the_newest_version_is_the_last_migration(database: Database):
    with database.engine.connect() as connection:
        scripts = ScriptDirectory.from_config(alembic_config(connection))
    assert scripts.get_current_head() == NEWEST


def migrate(url: str) -> None:
    Database(url).migrate()


def test_processes_that_start_together_migrate_once(tmp_path):
    url = f"sqlite:///{tmp_path}/new/experience.db"
    spawn = multiprocessing.get_context("spawn")
    starting = [spawn.Process(target=migrate, args=(url,)) for _ in range(3)]
    for process in starting:
        process.start()
    for process in starting:
        process.join(60)
    assert [process.exitcode for process in starting] == [0, 0, 0]


def test_numbers_are_handed_out_once(database: Database):
    with database.write() as session:
        assert next_seq(session, "credit", 3) == 1
    with database.write() as session:
        assert next_seq(session, "credit", 1) == 4


def test_a_transaction_that_fails_gives_its_numbers_back(database: Database):
    def fail() -> None:
        with database.write() as session:
            next_seq(session, "credit", 3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.write() as session:
        assert next_seq(session, "credit", 1) == 1


def test_the_database_refuses_an_older_holder(database: Database):
    with database.write() as session:
        admit(session, "update:default", 7)
    with pytest.raises(LeaseLost), database.write() as session:
        admit(session, "update:default", 6)
    with database.read() as session:
        row = session.get(FenceRow, "update:default")
        assert row is not None
        assert row.token == 7


def test_a_filled_database_goes_down_and_up_again(database: Database):
    with database.write() as session:
        upsert(session, [interaction(1), thumbs(1)])
    with database.engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0001")
        assert not is_newest(connection)
    database.migrate()
    with database.read() as session:
        (row,) = session.scalars(select(ExperienceRow))
    assert (row.interaction_id, row.choice) == ("chatcmpl-0001", 0)
