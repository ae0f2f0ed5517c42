"""`python -m burnish.serving`: one process, one model, one port.

The port listens before anything heavy is imported, so that clients that arrive during a restart wait
for some seconds and are answered. With `--standby` it is the other way round: everything is imported,
and the process waits for a line on its standard input before it begins. Exit code 2 and one line for everything a person can put right: a
setting, the port, keys, the model folder; 1 when a vital part of the process has failed, so that
whoever started it starts it again.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from types import ModuleType
from typing import TypeVar

from burnish.feedback.masking import masked
from burnish.feedback.telemetry import tracing
from burnish.feedback.telemetry.logs import format_logs
from burnish.feedback.telemetry.settings import TelemetrySettings
from burnish.serving.settings import CannotStart, PartFailed, ServingSettings
from pydantic import ValidationError
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)

BACKLOG = 2048  # connections that wait to be accepted


def read_settings(kind: type[S] = ServingSettings) -> S:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(["BURNISH", *(str(part).upper() for part in first["loc"][:1])])
        raise CannotStart(f"{name}: {first['msg']}") from error


def bind(settings: ServingSettings) -> socket.socket:
    """The listening socket; CannotStart if the port is in use.

    One of a fleet listens only once it can answer: its clients need not wait, there are other replicas.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP: asyncio sends small writes at once (TCP_NODELAY) only on sockets that say what they are,
    # and a stream whose events wait for the acknowledgement of the headers begins 40 ms late.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        if not settings.fleet:
            bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise CannotStart(
            f"cannot listen on {settings.host}:{settings.port} (BURNISH_HOST, BURNISH_PORT):"
            f" {error.strerror}"
        ) from error
    return bound


def run(standby: bool = False) -> None:
    if standby:
        _import_server()
        if not sys.stdin.readline():  # whoever started it has gone
            return
    settings, telemetry = read_settings(), read_settings(TelemetrySettings)
    format_logs(telemetry)
    with bind(settings) as listening:
        server = _import_server()
        try:
            tracing.start(telemetry, "burnish-serving", settings.data_dir)
            server.run(settings, listening)
        except tracing.TracingError as error:
            raise CannotStart(str(error)) from error
        finally:
            tracing.stop()


def _import_server() -> ModuleType:
    """Takes seconds."""
    gc.disable()  # a sixth of the time that imports take; `freeze_gc` enables it
    from burnish.serving import server

    return server


def main() -> int:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    format_logs(TelemetrySettings.model_construct())  # until the settings are read
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        run(standby="--standby" in sys.argv[1:])
    except CannotStart as error:
        print(masked(f"burnish: {error}"), file=sys.stderr)
        return 2
    except PartFailed as error:
        print(masked(f"burnish: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.umask(0o077)  # what people write is nobody else's to read
    sys.exit(main())
