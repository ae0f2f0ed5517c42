"""The built wheel: every package and data file is in it, nothing leaks to the top level, and it serves the page."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from burnish.serving.api.page_files import content_of

from tests.serving.conftest import closed_port
from tests.waiting import eventually

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


# The service that a wheel brings, with an engine that needs no weights.
SERVE = """
import asyncio
from burnish.serving.__main__ import bind, read_settings
from burnish.serving.engine import StubEngine
from burnish.serving.server import serve
from burnish.serving.settings import ServingSettings

settings = read_settings(ServingSettings)
with bind(settings) as listening:
    asyncio.run(serve(settings, StubEngine("Hello."), listening))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what git would commit."""
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
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    """Names inside it."""
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel; what it depends on is read from this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*install, str(built)], check=True, timeout=240)
    where = f"lib/python{sysconfig.get_python_version()}/site-packages"
    # A path in a .pth file is searched, but .pth files in it are not: the editable install stays out.
    (folder / where / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


@pytest.fixture(scope="module")
def served(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that the wheel brought."""
    folder = tmp_path_factory.mktemp("served")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BURNISH_")}
    port = closed_port()
    settings = {
        "BURNISH_DATA_DIR": str(folder / "data"),
        "BURNISH_PORT": str(port),
        "BURNISH_REDIS_URL": f"redis://127.0.0.1:{closed_port()}/0",
    }
    process = subprocess.Popen(
        [installed, "-c", SERVE], cwd=folder, env=ours | settings, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        assert process.poll() is None, "the service ended"
        try:
            return httpx.get(f"{url}/healthz").is_success
        except httpx.TransportError:
            return False

    try:
        eventually(up, seconds=120)
        yield url
    finally:
        process.terminate()
        process.wait(60)


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


def test_what_is_installed_is_the_wheel(installed: Path):
    code = "import burnish.serving; print(burnish.serving.__file__)"
    found = subprocess.run(
        [installed, "-c", code], cwd=installed.parent, capture_output=True, text=True, check=True
    ).stdout
    assert found.startswith(str(installed.parents[1]))


def test_it_serves_the_page(wheel: set[str], served: str):
    page = httpx.get(served)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    folder = "burnish/serving/page/"
    names = sorted(name.removeprefix(folder) for name in wheel if name.startswith(folder))
    assert {"app.js", "style.css", "burnish-feedback.js"} <= set(names)
    for name in names:
        answer = httpx.get(f"{served}/static/{name}")
        assert answer.status_code == 200, name
        assert answer.content == content_of(ROOT / "serving" / "page" / name), name
