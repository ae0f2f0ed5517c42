"""`burnish audit`, what the commands note in it, and what a start notes of its settings."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from burnish.feedback.audit import LOG, AuditLog
from burnish.ops.cli import app
from burnish.ops.commands import audit
from burnish.ops.commands.client import ServiceError
from burnish.ops.supervisor.noting import note_settings
from rich.console import Console
from typer.testing import CliRunner


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_DATA_DIR", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_what_is_done_to_keys_is_noted_without_the_keys(folder: Path):
    key = run("keys", "add", "acme", "--scope", "chat").strip()
    run("keys", "rotate", "acme")
    run("keys", "rotate-ids")
    log = AuditLog(folder)
    assert [entry.what for entry in log.entries()] == [
        "add key",
        "rotate key",
        "rotate ids' secret",
    ]
    assert log.entries()[0].details == {"tenant": "acme", "scopes": ["chat"]}
    assert key not in (folder / LOG).read_text()
    assert log.check() == []


def test_it_shows_the_log_and_checks_it(folder: Path):
    log = AuditLog(folder)
    for n in (1, 2, 3):
        log.append("ann", "promote", f"default@{n}", "it answers better")
    shown = Console(file=StringIO(), width=200)
    audit.show(log, 2, shown)
    audit.check(log, shown)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "default@3" in text
    assert "it answers better" in text
    assert "default@1" not in text
    assert "the audit log is whole: 3 entries" in text
    path = folder / LOG
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    with pytest.raises(ServiceError, match="before line 2, entries 2 are missing"):
        audit.check(log, shown)


def test_a_start_notes_settings_that_are_others_than_before(folder: Path):
    log = AuditLog(folder)
    first = {"BURNISH_PORT": "1", "BURNISH_SECRET": "hunter2", "PATH": "/bin"}
    note_settings(log, first, "ann")
    note_settings(log, first, "ann")
    note_settings(log, {**first, "BURNISH_PORT": "2"}, "bob")
    entries = log.entries()
    assert [(entry.who, entry.about) for entry in entries] == [
        ("ann", "BURNISH_PORT, BURNISH_SECRET"),
        ("bob", "BURNISH_PORT"),
    ]
    assert entries[1].details == {"BURNISH_PORT": "2", "BURNISH_SECRET": "***"}
