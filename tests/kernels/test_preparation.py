"""A large model is packed and timed by a process of its own, once; a small one by whoever loads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from burnish.kernels import preparation
from burnish.kernels.choice import NotTimed, Shape, Times
from burnish.kernels.cpu import library, packed_file
from burnish.kernels.folder import open_folder
from burnish.kernels.loading import load_model

from tests.conftest import missing

COMPILED = library.cache_folder()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, in which the library is not compiled again; nothing forces it."""
    if (built := library.library()) is None:
        missing("a C++ compiler")
    folder = tmp_path / "burnish"
    monkeypatch.setattr(packed_file, "cache_folder", lambda: folder)
    monkeypatch.setattr(library, "cache_folder", lambda: folder)
    monkeypatch.setattr(library, "library", lambda: built)
    monkeypatch.delenv("BURNISH_CPU", raising=False)
    return folder


class Child:
    """Stands for the process: does its work here, and counts how often it was started."""

    def __init__(self, times: Times | None, fails: bool = False) -> None:
        self.times, self.fails, self.started = times, fails, 0

    def run(self, command: list[str], **_) -> subprocess.CompletedProcess:
        self.started += 1
        path, dtype, weights = command[3:]
        assert command[:3] == [sys.executable, "-m", "burnish.kernels.prepare_model"]
        if self.fails:
            return subprocess.CompletedProcess(command, 1, "", "lots of text\nit was killed\n")
        load_model(path, dtype=dtype, weights=weights, timer=self.timed)  # type: ignore[arg-type]
        return subprocess.CompletedProcess(command, 0, "", "")

    def timed(self, _: Shape) -> dict:
        if self.times is None:
            raise NotTimed("too busy")
        return {"steps": self.times, "sequences": self.times, "training": self.times}


def child(monkeypatch: pytest.MonkeyPatch, times: Times | None, fails: bool = False) -> Child:
    found = Child(times, fails)
    monkeypatch.setattr(preparation.subprocess, "run", found.run)
    monkeypatch.setattr(preparation, "WORTH_BYTES", 0)
    return found


def test_it_is_done_once(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = child(monkeypatch, Times(1.0, 2.0))
    for _ in range(2):
        model = load_model(tiny_model)
        assert model.native is not None
        assert model.choice is not None
        assert model.choice.ways["steps"].times == Times(1.0, 2.0)
        assert model._reference is None  # transformers' model was never needed here
    assert started.started == 1


def test_the_process_itself_packs_and_times(tiny_model: Path, cache: Path) -> None:
    cache.mkdir()
    for compiled in COMPILED.glob("native-*.so"):
        (cache / compiled.name).symlink_to(compiled)
    command = [sys.executable, "-m", preparation.PROCESS, str(tiny_model), "auto", "auto"]
    environment = {k: v for k, v in os.environ.items() if k != "BURNISH_CPU"}
    subprocess.run(command, env=environment | {"XDG_CACHE_HOME": str(cache.parent)}, check=True)
    assert preparation.is_prepared(open_folder(tiny_model), "float32", "auto")


def test_a_model_that_pytorch_serves_is_not_prepared_again(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = child(monkeypatch, Times(2.0, 1.0))
    for _ in range(2):
        assert load_model(tiny_model).native is None
    assert started.started == 1


def test_what_was_too_busy_to_be_timed_serves_natively_and_is_timed_by_the_next_start(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = child(monkeypatch, None)
    assert load_model(tiny_model).native is not None
    started.times = Times(2.0, 1.0)
    assert load_model(tiny_model).native is None
    assert started.started == 2


def test_a_process_that_fails_leaves_the_work_to_this_one(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child(monkeypatch, None, fails=True)
    assert load_model(tiny_model).native is not None
    assert "it was killed" in caplog.text


def test_small_models_and_unknown_families_need_no_process(tiny_model: Path) -> None:
    folder = open_folder(tiny_model)
    assert folder.weight_bytes < preparation.WORTH_BYTES
    assert not preparation.is_prepared(folder, "float32", "auto")
    folder.config.model_type = "unheard_of"
    assert preparation.is_prepared(folder, "float32", "auto")
