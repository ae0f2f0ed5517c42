"""Every instruction set that runs here computes what the reference does."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from burnish.kernels.cpu import target
from burnish.kernels.cpu.library import FLAGS, SOURCES
from burnish.kernels.cpu.target import EMULATED, PYTORCH, TARGET, TARGETS, available, target_of

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


@pytest.mark.usefixtures("native_library")
def test_products_in_tiles_agree_with_the_reference_and_do_not_depend_on_other_rows() -> None:
    """Of bfloat16 weights, in emulation: no machine of ours has tiles."""
    suite = Path(__file__).with_name("test_step.py")
    chosen = "bfloat16 and (is_the_same_model or beside_a_row)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    done = subprocess.run(
        [*command, "-k", chosen],
        env={**os.environ, "BURNISH_CPU": EMULATED},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("....")  # two models, both tests


@pytest.mark.usefixtures("native_library")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 compiler")
def test_tiles_compile_to_the_processors_own_instructions(tmp_path: Path) -> None:
    source, made = tmp_path / "one.cpp", tmp_path / "one.s"
    source.write_text(
        '#include "gemm.h"\n'
        "void product(const Matrix& m, const Row* x, int64_t rows, Epilogue done) {\n"
        "    gemm(m, 0, 0, m.blocks, x, nullptr, rows, done);\n}\n"
    )
    flags = (*FLAGS, "-march=sapphirerapids", "-DBURNISH_WIDTH=16", *TARGETS["amx"].flags[1:])
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler
    command = [compiler, *flags, f"-I{SOURCES}", "-S", str(source), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assembly = made.read_text()
    for instruction in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"):
        assert instruction in assembly


@pytest.mark.parametrize(("flags", "permitted"), [("", True), ("amx_tile amx_bf16", False)])
def test_without_tiles_or_leave_to_use_them_they_are_refused(
    flags: str, permitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_processor_with(f"avx2 fma avx512f {flags}", permitted, monkeypatch)
    with pytest.raises(ValueError, match="BURNISH_CPU=amx cannot run"):
        target_of("amx")


def test_tiles_serve_only_where_they_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    a_processor_with("avx2 fma avx512f amx_tile amx_bf16", True, monkeypatch)
    assert target_of(None) == TARGETS["avx512"]
    assert target_of("amx") == TARGETS["amx"]


def a_processor_with(flags: str, permitted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(target, "cpu_lines", lambda: [f"flags : {flags}"])
    monkeypatch.setattr(target, "_may_use_tiles", lambda: permitted)


def test_without_any_the_reference_serves() -> None:
    code = "from burnish.kernels.cpu.library import library; print(library())"
    assert run(code, PYTORCH).stdout.strip() == "None"


def test_one_that_cannot_run_is_refused_with_those_that_can() -> None:
    with pytest.raises(ValueError, match=f"BURNISH_CPU=itanium cannot run .* {PYTORCH}"):
        target_of("itanium")
