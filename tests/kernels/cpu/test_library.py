"""The native library is built once per source, and nothing breaks where it cannot be built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from burnish.kernels.cpu import library as native

SOURCE = """
#include "number.h"
extern "C" {
int burnish_step() { return number; }
void burnish_backward() {}
void burnish_activations() {}
}
"""


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library that compiles in no time, and an empty cache beside it."""
    folder = tmp_path / "native"
    folder.mkdir()
    (folder / "step.cpp").write_text(SOURCE)
    (folder / "number.h").write_text("constexpr int number = 1;")
    monkeypatch.setattr(native, "SOURCES", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield folder
    native.library.cache_clear()


def cached(sources: Path) -> dict[str, int]:
    """Files of the cache and when each was written."""
    files = (sources.parent / "cache" / "burnish").iterdir()
    return {file.name: file.stat().st_mtime_ns for file in files}


def load_again() -> None:
    """As another process would."""
    native.library.cache_clear()
    assert native.library() is not None


@pytest.mark.usefixtures("native_library")
def test_the_library_is_compiled_once(sources: Path) -> None:
    load_again()
    first = cached(sources)
    assert len(first) == 1
    load_again()
    assert cached(sources) == first


@pytest.mark.usefixtures("native_library")
def test_a_changed_header_is_another_library(sources: Path) -> None:
    load_again()
    (sources / "number.h").write_text("constexpr int number = 2;")
    load_again()
    assert len(cached(sources)) == 2


def test_without_a_compiler_the_reference_serves_and_the_log_says_so(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(sources))
    assert native.library() is None
    assert "no C++ compiler" in caplog.text
    assert "PyTorch" in caplog.text


@pytest.mark.usefixtures("native_library")
def test_a_library_that_does_not_compile_is_told_with_the_compilers_words(
    sources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sources / "step.cpp").write_text("#error nothing for this machine")
    assert native.library() is None
    assert "nothing for this machine" in caplog.text
    assert "PyTorch" in caplog.text
