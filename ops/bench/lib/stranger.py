"""What another user of this machine can do to a running service: `python -m ...lib.stranger` tries.

It becomes that user first (where we are root; elsewhere only files' modes can tell) and knows what
any of them can find out: addresses, paths, process ids. No credentials. Left out: guessing
passwords, and faults of the servers themselves.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from burnish.ops.supervisor import run_state

NOBODY = 65534
TIMEOUT_S = 20.0
FOREIGN = {"Origin": "http://evil.example"}

MLFLOW = [
    ("GET", "/"),
    ("GET", "/api/2.0/mlflow/registered-models/search"),
    ("GET", "/ajax-api/2.0/mlflow/registered-models/search"),
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("POST", "/api/2.0/mlflow/runs/create"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/a/artifacts/evil"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path="),
    ("POST", "/graphql"),
]
API = [
    ("GET", "/v1/policies"),
    ("GET", "/v1/learner"),
    ("GET", "/v1/memory/export?user=ada"),
    ("POST", "/v1/policies/default/promote"),
    ("POST", "/v1/policies/default/rollback"),
    ("POST", "/v1/learner/update"),
    ("POST", "/v1/memory/forget"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/feedback"),
]


@dataclass(frozen=True)
class Attempt:
    """One door tried. `what` is "files", "processes", "mlflow", "redis", "kafka", "api" or "origin"."""

    what: str
    door: str
    opened: bool
    said: str = ""


@dataclass(frozen=True)
class Target:
    """What a stranger can find out about a service."""

    data_dir: str
    files: list[str]
    pids: list[int]
    api: str
    mlflow: str | None
    redis_port: int | None
    kafka_ports: list[int]


def try_doors(data_dir: Path) -> list[Attempt]:
    """Every door of the service that runs on this folder, tried by somebody else."""
    command = [sys.executable, "-m", "burnish.ops.bench.lib.stranger"]
    given = json.dumps(asdict(_target(data_dir)))
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    return [Attempt(**found) for found in json.loads(done.stdout)]


def _target(data_dir: Path) -> Target:
    state = run_state.running(data_dir)
    if state is None:
        raise ProcessLookupError(f"no service runs on {data_dir}")
    ports = data_dir / "kafka" / "ports.json"
    return Target(
        data_dir=str(data_dir),
        files=[str(path) for path in data_dir.rglob("*") if path.is_file()],
        pids=[state.pid, *state.children.values()],
        api=state.url,
        mlflow=state.mlflow_url,
        redis_port=state.redis_port,
        kafka_ports=list(json.loads(ports.read_text()).values()) if ports.exists() else [],
    )


def attempts(target: Target) -> Iterator[Attempt]:
    yield from _files(target)
    yield from _processes(target)
    if target.mlflow is not None:
        for method, path in MLFLOW:
            yield _http("mlflow", target.mlflow, method, path, {})
    if target.redis_port is not None:
        for command in (b"PING\r\n", b"KEYS *\r\n", b"CONFIG GET requirepass\r\n"):
            yield _redis(target.redis_port, command)
    for port in target.kafka_ports:
        yield _kafka(port)
    for method, path in API:
        yield _http("api", target.api, method, path, {})
        yield _http("origin", target.api, method, path, FOREIGN)


def _files(target: Target) -> Iterator[Attempt]:
    folder = Path(target.data_dir)
    yield Attempt("files", f"list {folder}", _succeeds(lambda: os.listdir(folder)))
    yield Attempt("files", f"write in {folder}", _succeeds((folder / "evil").touch))
    for name in target.files:
        for what, flags in (("read", os.O_RDONLY), ("write", os.O_WRONLY | os.O_APPEND)):
            opened = _succeeds(lambda name=name, flags=flags: os.close(os.open(name, flags)))
            yield Attempt("files", f"{what} {name}", opened)


def _processes(target: Target) -> Iterator[Attempt]:
    """Environments are closed; command lines are open to everybody, so what they say is told."""
    for pid in target.pids:
        environ = Path(f"/proc/{pid}/environ")
        yield Attempt("processes", f"read {environ}", _succeeds(environ.read_bytes))
        with contextlib.suppress(OSError):
            called = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            yield Attempt("processes", f"/proc/{pid}/cmdline", False, called)


def _http(what: str, url: str, method: str, path: str, headers: dict[str, str]) -> Attempt:
    server = urlsplit(url)
    connection = http.client.HTTPConnection(server.netloc, timeout=TIMEOUT_S)
    sent = {"Content-Type": "application/json", **headers}
    try:
        connection.request(method, path, "{}" if method != "GET" else None, sent)
        status = connection.getresponse().status
    except OSError as error:
        return Attempt(what, f"{method} {path}", False, str(error))
    finally:
        connection.close()
    return Attempt(what, f"{method} {path}", status not in (401, 403), str(status))


def _redis(port: int, command: bytes) -> Attempt:
    said = _ask(port, command)
    return Attempt("redis", command.decode().strip(), not said.startswith(b"-NOAUTH"), repr(said))


def _kafka(port: int) -> Attempt:
    """Metadata of all topics (key 3, version 9): a broker that wants a login hangs up."""
    header = struct.pack(">hhih", 3, 9, 1, 4) + b"evil" + b"\0"
    request = header + b"\0\0\0\0\0"
    said = _ask(port, struct.pack(">i", len(request)) + request)
    return Attempt("kafka", f"metadata from port {port}", bool(said), repr(said[:80]))


def _ask(port: int, message: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(message)
            return connection.recv(4096)
    except OSError:
        return b""


def _succeeds(action) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


def _by_modes(found: Attempt, target: Target) -> Attempt:
    """Where we could not become somebody else, the folder's mode says what they could do."""
    if found.what != "files":
        return found
    closed = not os.stat(target.data_dir).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return Attempt(found.what, found.door, not closed, "by its mode")


def main() -> None:
    target = Target(**json.load(sys.stdin))
    became = os.geteuid() == 0
    if became:
        "".encode("idna")  # what the probes import they must import before
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    found = list(attempts(target))
    if not became:
        found = [
            _by_modes(one, target)
            for one in found
            if one.what != "processes" or "cmdline" in one.door
        ]
    json.dump([asdict(one) for one in found], sys.stdout)


if __name__ == "__main__":
    main()
