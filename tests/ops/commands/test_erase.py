"""`burnish erase`: the person is gone from the database that the settings name, and it says what was learnt."""

import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.tables import InteractionRow, VersionEventRow
from burnish.ops.commands import erase
from burnish.ops.commands.client import ServiceError
from rich.console import Console
from sqlalchemy import select

from tests.learner.conftest import interaction, thumbs


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    named = f"sqlite:///{tmp_path}/experience.db"
    monkeypatch.setenv("BURNISH_DATABASE_URL", named)
    database = Database(named)
    database.migrate()
    with database.write() as session:
        upsert(session, [interaction(1), thumbs(1), interaction(2, user="bob")])
        session.add(VersionEventRow(policy="default", version=3, event="local/fb-0001"))
    database.close()
    return named


def test_it_says_what_is_gone_and_which_versions_have_learnt_from_it(url: str):
    console = Console(file=StringIO(), width=200)
    erase.run("local", "ada", console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "erased 1 interactions and 1 judgements" in said
    assert "default: versions 3 have learnt from them" in said
    database = Database(url)
    with database.read() as session:
        assert list(session.scalars(select(InteractionRow.user))) == ["bob"]
    database.close()


def test_a_database_that_is_away_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BURNISH_DATABASE_URL", "postgresql://burnish@127.0.0.1:1/burnish")
    with pytest.raises(ServiceError, match="cannot be reached"):
        erase.run("local", "ada", Console(file=StringIO()))


def test_the_command_takes_user_and_tenant(url: str):
    done = subprocess.run(
        [sys.executable, "-m", "burnish.ops.cli", "erase", "ada", "--tenant", "other"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "erased 0 interactions and 0 judgements" in done.stdout
