"""The native library is built once, and nothing breaks where it cannot be."""

import shutil
import subprocess
from pathlib import Path

import pytest
from burnish.kernels.cpu import library as native

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler"
)


@needs_compiler
def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler is not None
    made = native._compiled(compiler)
    written = made.stat().st_mtime_ns
    assert native._compiled(compiler) == made
    assert made.stat().st_mtime_ns == written
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("trouble", ["no compiler", "does not compile"])
def test_without_a_library_the_reference_serves_and_the_log_says_so(
    trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(compiler: str) -> Path:
        raise subprocess.CalledProcessError(1, compiler, stderr="syntax error")

    found = None if trouble == "no compiler" else "/usr/bin/g++"
    monkeypatch.setattr(native.shutil, "which", lambda name: found)
    monkeypatch.setattr(native, "_compiled", refuse)
    native.library.cache_clear()
    try:
        assert native.library() is None
    finally:
        native.library.cache_clear()
    assert "PyTorch" in caplog.text
