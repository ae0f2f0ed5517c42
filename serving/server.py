"""The serving process once its port listens: engine, service, HTTP server, and draining.

SIGTERM and SIGINT drain: readiness turns to 503, kept connections are closed after their next answer,
after `drain_wait_s` new requests get 503 too, running answers finish; a second signal ends it at once. When a vital part of the process has failed it drains in the same way. Left out: several workers (one engine owns the model and its cache).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from types import FrameType

import uvicorn
from burnish.feedback.errors import SpoolError
from burnish.kernels.cpu.allocation import release_freed, trim
from burnish.serving.api.auth import KeyStore, is_loopback
from burnish.serving.api.service import LOOK_PATIENCE_S, Service
from burnish.serving.app import bare_app, load_engine
from burnish.serving.engine import Engine, EngineError
from burnish.serving.registry import BaseMismatch
from burnish.serving.settings import CannotStart, PartFailed, ServingSettings
from fastapi import FastAPI

log = logging.getLogger("burnish.serving")

FAILED_EXIT_S = 10.0  # beside drain_s: a process with a failed part may not stop in order


def check_keys(settings: ServingSettings) -> None:
    if not is_loopback(settings.host) and not KeyStore(
        settings.data_dir / "keys.sqlite", url=settings.keys_url
    ):
        raise CannotStart(
            f"BURNISH_HOST={settings.host} is reachable by others and no API key is registered:"
            " make one with 'burnish keys add', or bind to 127.0.0.1"
        )


def check_fleet(settings: ServingSettings) -> None:
    if settings.fleet and not os.environ.get("BURNISH_SECRET"):
        raise CannotStart(
            "BURNISH_FLEET: replicas sign interaction ids with one secret, or feedback on another one's"
            " answers is refused: set BURNISH_SECRET, the same on all of them"
        )


class Server(uvicorn.Server):
    """Uvicorn, but the listening socket stays open while draining, to answer 503 and /readyz."""

    def __init__(self, app: FastAPI, service: Service):
        # Longer than clients keep an idle connection (httpx: 5 s), or some lose a request to the race.
        # httptools parses and frames with a sixth less CPU per answer than h11.
        config = uvicorn.Config(
            app,
            http="httptools",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # or a client could claim another's address
            lifespan="off",
            timeout_keep_alive=service.settings.idle_timeout_s,
        )
        super().__init__(config)
        self._service = service
        self._drain: asyncio.Task[None] | None = None
        self.failed: list[str] = []  # vital parts, and why

    async def drain_when_a_part_fails(self) -> None:
        service = self._service
        self.failed = await service.vitals.wait()
        log.critical("the process ends: %s", "; ".join(self.failed))
        end_by = threading.Timer(service.settings.drain_s + FAILED_EXIT_S, os._exit, [1])
        end_by.daemon = True
        end_by.start()
        service.draining = service.refusing = True
        await self._exit_when_idle(service)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        service = self._service
        if service.draining:
            self.should_exit = self.force_exit = True
            return
        service.draining = True
        log.info("draining: %d requests are running", service.in_flight)
        self._drain = asyncio.get_running_loop().create_task(self._exit_when_idle(service))

    async def _exit_when_idle(self, service: Service) -> None:
        if not service.refusing:
            await asyncio.sleep(service.settings.drain_wait_s)
            service.refusing = True
        deadline = time.monotonic() + service.settings.drain_s
        while service.in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 (two numbers)
            await asyncio.sleep(0.05)
        if service.in_flight:
            log.warning("%d requests did not finish in time and are cut off", service.in_flight)
            await service.engine.stop(drain=False)
        self.should_exit = True


def run(settings: ServingSettings, listening: socket.socket) -> None:
    """Until a signal. Raises CannotStart."""
    check_keys(settings)
    check_fleet(settings)
    try:
        engine = load_engine(settings)
    except ValueError as error:
        message = f"BURNISH_MODEL={settings.model}: {error}"
        if isinstance(error, EngineError):
            message = f"BURNISH_ENGINE_URL={settings.engine_url}: {error}"
        raise CannotStart(message) from error
    asyncio.run(serve(settings, engine, listening))


async def serve(settings: ServingSettings, engine: Engine, listening: socket.socket) -> None:
    """Until a signal. Opened here and not by the application, to refuse in one line."""
    try:
        service = Service.build(settings, engine)
    except SpoolError as error:
        raise CannotStart(str(error)) from error
    app = bare_app(settings)
    app.state.service = service
    try:
        await service.start()
        if settings.fleet:
            await service.policies.first_look(LOOK_PATIENCE_S)
        freeze_gc()
        host, port = listening.getsockname()[:2]
        log.info("serving on http://%s:%d", host, port)
        server = Server(app, service)
        beside = (server.drain_when_a_part_fails(), freeze_once_looked(service))
        tasks = [asyncio.create_task(one) for one in beside]
        await server.serve([listening])
        for task in tasks:
            task.cancel()
        if server.failed:
            raise PartFailed("; ".join(server.failed))
    except BaseMismatch as error:
        raise CannotStart(str(error)) from error
    finally:
        await service.stop()


async def freeze_once_looked(service: Service) -> None:
    """Exclude MLflow too, which the first look at the registry imports, and give back what that left over."""
    await service.policies.first_look(LOOK_PATIENCE_S)
    gc.freeze()
    await asyncio.to_thread(trim)


def freeze_gc() -> None:
    """Exclude what has been loaded from garbage collection: half a million objects of libraries
    take 0.3 s to traverse, in which no other thread runs. What loading left over is given back."""
    release_freed()  # some 30 MB
    gc.freeze()
    gc.enable()
