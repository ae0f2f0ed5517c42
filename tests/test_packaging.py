"""The built wheel: every package and data file is in it, and nothing leaks to the top level."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("feedback", "kernels", "learner", "memory", "ops", "serving")
# Data that the code reads at run time; documents and container files stay in the repository.
DATA = (
    ".cpp",
    ".json",
    ".jsonl",
    ".jinja",
    ".lua",
    ".mako",
    ".html",
    ".js",
    ".css",
    ".svg",
    ".xml",
    ".yml",
    ".safetensors",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names inside a wheel built from a copy of what git would commit."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    built = tmp_path_factory.mktemp("built")
    # The backend directly: no build isolation, so no network.
    code = f"from setuptools.build_meta import build_wheel; print(build_wheel({str(built)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        return set(archive.namelist())


def _committed(room: str, suffixes: tuple[str, ...]) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", room], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    skip = ("ops/typing/", "ops/docs/", "ops/bench/results/", "ops/chart/")
    return {name for name in listed if name.endswith(suffixes) and not name.startswith(skip)}


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_and_data_file_of_a_room_is_in_the_wheel(room: str, wheel: set[str]):
    wanted = {f"burnish/{name}" for name in _committed(room, (".py", *DATA))}
    assert wanted - wheel == set()


def test_nothing_leaks_to_the_top_level(wheel: set[str]):
    tops = {name.split("/")[0] for name in wheel}
    assert "burnish" in tops
    assert all(top == "burnish" or top.startswith("burnish-") for top in tops)


def test_kernels_stays_a_namespace_so_that_no_library_mistakes_it_for_its_own(wheel: set[str]):
    assert "burnish/kernels/__init__.py" not in wheel
    assert "burnish/__init__.py" not in wheel
