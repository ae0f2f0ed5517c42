"""The audit log: what is changed, removed, put in or cut off is named by its place."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from burnish.feedback.audit import HEAD, LOG, AuditLog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog(tmp_path, clock=lambda: 1.0)
    for n in range(1, 6):
        made.append("ann", "promote", f"default@{n}", why=f"reason {n}")
    return made


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / LOG).read_text().splitlines()


def write(tmp_path: Path, kept: list[str]) -> None:
    (tmp_path / LOG).write_text("".join(f"{line}\n" for line in kept))


def test_what_was_done_is_told_in_order(log: AuditLog) -> None:
    assert [entry.n for entry in log.entries()] == [1, 2, 3, 4, 5]
    last = log.entries(1)[0]
    assert (last.who, last.what, last.about, last.why) == (
        "ann",
        "promote",
        "default@5",
        "reason 5",
    )
    assert log.check() == []


def test_a_log_that_never_was_is_whole(tmp_path: Path) -> None:
    assert AuditLog(tmp_path).entries() == []
    assert AuditLog(tmp_path).check() == []


@pytest.mark.parametrize("place", range(1, 6))
def test_a_changed_line_is_named(log: AuditLog, tmp_path: Path, place: int) -> None:
    kept = lines(tmp_path)
    kept[place - 1] = kept[place - 1].replace("reason", "excuse")
    write(tmp_path, kept)
    assert log.check() == [f"line {place} (entry {place}) was changed, or something before it"]


@pytest.mark.parametrize("place", range(1, 5))
def test_a_removed_line_is_named(log: AuditLog, tmp_path: Path, place: int) -> None:
    kept = lines(tmp_path)
    del kept[place - 1]
    write(tmp_path, kept)
    assert log.check() == [f"before line {place}, entries {place} are missing"]


@pytest.mark.parametrize("left", range(5))
def test_an_end_that_is_cut_off_is_named(log: AuditLog, tmp_path: Path, left: int) -> None:
    write(tmp_path, lines(tmp_path)[:left])
    missing = "5" if left == 4 else f"{left + 1} to 5"
    assert log.check() == [f"at the end, entries {missing} are missing"]


def test_lines_that_change_places_or_are_numbered_anew_are_named(
    log: AuditLog, tmp_path: Path
) -> None:
    whole = lines(tmp_path)
    write(tmp_path, [whole[0], whole[2], whole[1], *whole[3:]])
    assert log.check()
    numbered = []
    for n, line in enumerate([*whole[:1], *whole[2:]], 1):
        numbered.append(json.dumps({**json.loads(line), "n": n}))
    write(tmp_path, numbered)
    assert log.check()[0] == "line 2 (entry 2) was changed, or something before it"


def test_without_its_head_the_end_cannot_be_told(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / HEAD).unlink()
    assert "cannot be told" in log.check()[0]
    (tmp_path / HEAD).write_text('{"n": 4, "mac": "00", "signature": "00"}')
    assert log.check() == [f"{HEAD} was changed"]


def test_another_key_does_not_forge_it(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "audit-key").write_text("another")
    assert len(AuditLog(tmp_path).check()) == 6


def test_what_a_writer_that_died_left_is_cut_off(log: AuditLog, tmp_path: Path) -> None:
    with (tmp_path / LOG).open("a") as file:
        file.write('{"n": 6, "at": 1.0, "who": "ann", "wh')
    log.append("bob", "rollback")
    assert [entry.who for entry in log.entries()] == ["ann"] * 5 + ["bob"]
    assert log.check() == []


def test_many_write_at_once(tmp_path: Path) -> None:
    def write_some() -> None:
        log = AuditLog(tmp_path)
        for _ in range(20):
            log.append("ann", "promote")

    threads = [threading.Thread(target=write_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.n for entry in AuditLog(tmp_path).entries()] == list(range(1, 81))
    assert AuditLog(tmp_path).check() == []


def test_passwords_stay_out(log: AuditLog) -> None:
    log.append("ann", "settings", why="redis://user:hunter2@host went away")
    assert "hunter2" not in log.entries(1)[0].why


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 4), where=st.integers(0, 10_000), to=st.sampled_from('0a}"x9'))
def test_no_character_can_be_changed_unseen(
    log: AuditLog, tmp_path: Path, place: int, where: int, to: str
) -> None:
    whole = lines(tmp_path)
    line = whole[place]
    at = where % len(line)
    kept = [*whole]
    kept[place] = line[:at] + to + line[at + 1 :]
    try:
        write(tmp_path, kept)
        same = kept[place] == line or json.loads(kept[place]) == json.loads(line)
    except ValueError:
        same = False
    assert (log.check() == []) == same
    write(tmp_path, whole)
