"""A SLURM of one node, as Debian packages it: munge's daemon, the controller and the node's daemon."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import free_port, missing

DAEMONS = ("munged", "slurmctld", "slurmd")
SETTINGS = """
ClusterName=burnish
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
MinJobAge=2
KillWait=1
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """`environment` names its settings to SLURM's commands."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        folder = self._folder
        for name in ("state", "spool"):
            (folder / name).mkdir(mode=0o700)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        (folder / "slurm.conf").write_text(
            SETTINGS.format(
                host=socket.gethostname().split(".")[0],
                controller=free_port(),
                node=free_port(),
                folder=folder,
                cpus=os.cpu_count(),
            )
        )
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
        files |= {"log-file": "munge.log", "seed-file": "munge.seed"}
        options = [f"--{name}={folder / file}" for name, file in files.items()]
        self._run("munged", "--foreground", "--force", *options)
        self._wait((folder / "munge.socket").exists)
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        self._wait(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"))

    def stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        ).stdout

    def _run(self, name: str, *options: str) -> None:
        environment = {**os.environ, **self.environment}
        with (self._folder / f"{name}.out").open("wb") as log:
            command = [str(daemon_path(name)), *options]
            self._daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def _wait(self, ready) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            dead = [d.args for d in self._daemons if d.poll() is not None]
            if dead or time.monotonic() > deadline:
                told = [p.read_text(errors="replace") for p in sorted(self._folder.glob("*.[lo]*"))]
                pytest.fail(f"SLURM did not start; ended: {dead}\n" + "\n".join(told)[-4000:])
            time.sleep(0.05)


def daemon_path(name: str) -> Path | None:
    """Daemons lie outside of a user's PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return Path(found) if found else None


def slurm_or_skip(folder: Path) -> SlurmCluster:
    if not all(map(daemon_path, DAEMONS)):
        missing("slurmctld is not installed (Debian: slurm-wlm)")
    if os.geteuid():
        missing("SLURM's daemons want root")
    made = SlurmCluster(folder)
    made.start()
    return made
