"""Every instruction set that runs here computes what the reference does."""

import os
import subprocess
import sys

import pytest
from burnish.kernels.cpu.target import PYTORCH, TARGET, TARGETS, available, target_of

OTHERS = [name for name in available() if TARGET is None or name != TARGET.name]
ERRORS = """
from burnish.kernels.backends import backends
from burnish.kernels.cpu.target import WIDTH
native = [b for b in backends() if b.name.startswith("native")]
assert native and all(b.passed for b in native), native
print(WIDTH)
"""


def run(code: str, cpu: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, held to `cpu`."""
    env = {**os.environ, "BURNISH_CPU": cpu}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


@pytest.mark.usefixtures("native_library")
@pytest.mark.parametrize("name", OTHERS)
def test_another_instruction_set_agrees_with_the_reference(name: str) -> None:
    done = run(ERRORS, name)
    assert done.stdout.strip() == str(TARGETS[name].width), done.stderr


def test_without_any_the_reference_serves() -> None:
    code = "from burnish.kernels.cpu.library import library; print(library())"
    assert run(code, PYTORCH).stdout.strip() == "None"


def test_one_that_cannot_run_is_refused_with_those_that_can() -> None:
    with pytest.raises(ValueError, match=f"BURNISH_CPU=itanium cannot run .* {PYTORCH}"):
        target_of("itanium")
