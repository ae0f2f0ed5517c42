"""A private PostgreSQL cluster for one benchmark, which may be stopped and started again.

Debian's binaries. Run by root it belongs to the user `postgres`: the server refuses root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from burnish.ops.settings import free_port


def installed() -> Path | None:
    """The folder of the newest server's binaries."""
    homes = Path("/usr/lib/postgresql").glob("*/bin")
    return max(homes, key=lambda home: int(home.parent.name), default=None)


class Postgres:
    """One cluster in `folder`: same port and data at every start."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._port = free_port()
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://burnish@127.0.0.1:{self._port}/postgres"

    def create(self) -> None:
        self._run("initdb", "-D", "data", "-U", "burnish", "-A", "trust", "-E", "UTF8")

    def start(self, **settings: str) -> None:
        """`settings`: of the server, such as shared_buffers="1GB"."""
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        options += "".join(f" -c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", "data", "-m", mode, "-w", "-t", "600", "stop")

    def signal(self, sig: signal.Signals) -> None:
        """To the server and all its processes."""
        server = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        for pid in (server, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, sig)

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._binaries / name), *arguments]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=660)


@contextmanager
def kept_postgres(binaries: Path, folder: Path) -> Iterator[Postgres]:
    """A stopped cluster in `folder`, made where there is none; whoever starts it stops it. It stays."""
    new = not (folder / "data").is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    postgres = Postgres(binaries, folder)
    if new:
        postgres.create()
    try:
        yield postgres
    finally:
        with suppress(subprocess.CalledProcessError):  # it does not run
            postgres.stop("fast")


@contextmanager
def run_postgres(binaries: Path) -> Iterator[Postgres]:
    """A running cluster in a folder of its own, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="burnish-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    postgres = Postgres(binaries, folder)
    postgres.create()
    postgres.start()
    try:
        yield postgres
    finally:
        with suppress(subprocess.CalledProcessError):  # an outage may have ended it
            postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
