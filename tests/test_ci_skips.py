"""The skip policy, in a pytest run of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ci_skips import needs

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest

def test_without_the_extra():
    pytest.skip("extra not installed")

@pytest.mark.skipif(True, reason="redis-server is not installed")
def test_without_a_server():
    pass

@pytest.fixture(scope="session")
def server():
    pytest.skip("kafka is not installed")

def test_with_a_server(server):
    pass

@pytest.mark.xfail
def test_known_to_fail():
    assert False
"""
MODULE = """
import pytest
pytest.skip("postgres is not installed", allow_module_level=True)
"""


def outcome(folder: Path, ci: str, content: str) -> str:
    """The output of pytest over one file of tests."""
    (folder / "test_inner.py").write_text(content)
    options = ["-p", "tests.ci_skips", "-p", "no:cacheprovider", "-rsfE", "--rootdir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", os.devnull, str(folder)],
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_on_a_laptop_every_skip_is_listed_with_its_reason(tmp_path: Path):
    output = outcome(tmp_path, "", TESTS)
    assert "3 skipped, 1 xfailed" in output
    for reason in ("extra", "redis-server is", "kafka is"):
        assert f"{reason} not installed" in output


def test_in_ci_only_a_listed_reason_may_skip(tmp_path: Path):
    output = outcome(tmp_path, "true", TESTS)
    assert "1 skipped, 1 xfailed, 2 errors" in output
    for server in ("redis-server", "kafka"):
        assert f"does not allow: Skipped: {server} is not installed" in output


def test_in_ci_a_module_that_skips_itself_fails(tmp_path: Path):
    output = outcome(tmp_path, "true", MODULE)
    assert "1 error" in output
    assert "does not allow: Skipped: postgres is not installed" in output


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("Skipped: extra not installed", "an optional extra"),
        ("Skipped: Triton's interpreter has no bfloat16", "a GPU"),
        ("BURNISH_TEST_VLLM_URL and BURNISH_TEST_VLLM_MODEL name no vLLM server", "a vLLM server"),
        ("Skipped: redis-server is not installed (Debian: redis-server)", None),
        ("no C++ compiler", None),
    ],
)
def test_a_reason_tells_what_ci_lacks(reason: str, what: str | None):
    assert needs(reason) == what
