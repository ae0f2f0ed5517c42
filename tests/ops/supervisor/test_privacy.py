"""A data folder is its owner's alone, one from before too."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.ops.supervisor.privacy import close_to_others


@pytest.fixture(autouse=True)
def same_mask() -> Iterator[None]:
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_private_and_so_is_what_is_made_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    assert close_to_others(folder) is None
    (folder / "file").touch()
    (folder / "logs").mkdir()
    assert [mode(path) for path in (folder, folder / "file", folder / "logs")] == [
        0o700,
        0o600,
        0o700,
    ]


def test_a_folder_from_before_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    (folder / "experience.db").touch(mode=0o644)
    assert close_to_others(folder) is None
    assert mode(folder) == 0o700


def test_one_that_cannot_be_closed_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refused)
    assert "its owner should close it" in (close_to_others(folder) or "")
    monkeypatch.setattr(Path, "chmod", lambda *_, **__: None)
    assert "keeps no modes" in (close_to_others(folder) or "")
