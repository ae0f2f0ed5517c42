"""Requests to a vLLM server: how it is, streamed completions, loading and unloading LoRA adapters.

Left out: which requests and adapters there are (engine.py), and which server gets them (pool.py).
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2 as httpx
from burnish.serving.engine.types import EngineError
from burnish.serving.engine.vllm.errors import BadAdapter, ServerLost, Unreachable
from burnish.serving.engine.vllm.protocol import message_of, refusal

CONNECT_S = 10.0
ADAPTER_S = 60.0  # to load or unload one; a swap waits no longer for a server that hangs


@dataclass(frozen=True)
class Look:
    """What a server said of itself."""

    model: str  # its name of the base model
    max_model_len: int
    adapters: frozenset[str]
    load: int  # requests of everybody; 0 without --enable-server-load-tracking


@dataclass(eq=False)
class Wait:
    """One wait for something from the server."""

    timeout: asyncio.Timeout
    loop: asyncio.AbstractEventLoop
    began: float
    lost: bool = False


def connections(key: str | None) -> httpx.AsyncClient:
    """A pool of connections to any servers; the caller closes it."""
    return httpx.AsyncClient(**_options(key), limits=httpx.Limits(max_connections=None))


def _options(key: str | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"headers": headers, "timeout": httpx.Timeout(CONNECT_S, read=None)}


class VllmClient:
    """One server. Streams end with TimeoutError at their deadline, or once `abort` is called."""

    def __init__(
        self, url: str, key: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url.rstrip("/")
        parts = urlsplit(self._url)
        self.address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        # One client for all short requests, since each new one reads the system's certificates.
        # It keeps no connections, which nobody would close.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx.Client(base_url=self._url, limits=limits, **_options(key))
        self._clock = clock
        self.aborting = False
        self._lock = threading.Lock()  # guards `aborting` and the waits
        self._waits: set[Wait] = set()

    def look(self, patience_s: float) -> Look:
        """How the server is and what it holds; each of three requests may take `patience_s`.

        Raises Unreachable.
        """
        try:
            health, models, load = (
                self._http.get(path, timeout=patience_s)
                for path in ("/health", "/v1/models", "/load")
            )
        except httpx.HTTPError as error:
            raise Unreachable(_told(error)) from error
        if health.status_code >= 500:  # what stands between may not pass it on
            raise Unreachable(f"it is not healthy ({health.status_code})")
        if models.status_code != 200:
            raise Unreachable(f"{models.status_code} {models.reason_phrase} for /v1/models")
        try:
            cards = models.json()["data"]
            card = next(card for card in cards if not card.get("parent"))
            adapters = frozenset(str(card["id"]) for card in cards if card.get("parent"))
            return Look(str(card["id"]), int(card["max_model_len"]), adapters, _load(load))
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise Unreachable("what does lists no model with a max_model_len") from error

    # -- completions ---------------------------------------------------------------------------

    async def completion(
        self,
        http: httpx.AsyncClient,
        body: dict[str, Any],
        deadline: float | None,
        reload: Callable[[], bool],
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one streamed completion. `deadline` is a time of the event loop's clock.

        `reload` is called when the server does not know the model; if it returns true, the request is
        sent again. Raises ServerLost, and what `refusal` makes of the server's errors.
        """
        try:
            async with self._post(http, body, deadline, reload) as response:
                lines = response.aiter_lines()
                while True:
                    async with self._waiting(deadline):
                        line = await anext(lines, None)
                    if line is None:
                        raise ServerLost("vLLM ended an answer in the middle")
                    if line.startswith("data: {"):
                        event = json.loads(line.removeprefix("data: "))
                        if error := event.get("error"):
                            raise refusal(error.get("code", 500), str(error.get("message")), body)
                        yield event
        except httpx.HTTPError as error:
            taken = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise ServerLost(f"vLLM: {_told(error)}", taken=taken) from error

    @asynccontextmanager
    async def _post(
        self,
        http: httpx.AsyncClient,
        body: dict[str, Any],
        deadline: float | None,
        reload: Callable[[], bool],
    ) -> AsyncIterator[httpx.Response]:
        async with self._waiting(deadline):
            response = await self._send(http, body)
            if response.status_code == 404 and await asyncio.to_thread(reload):
                await response.aclose()
                response = await self._send(http, body)
            if response.status_code != 200:
                await response.aread()
        try:
            if response.status_code != 200:
                raise refusal(response.status_code, message_of(response), body)
            yield response
        finally:
            await response.aclose()

    async def _send(self, http: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
        request = http.build_request("POST", f"{self._url}/v1/completions", json=body)
        return await http.send(request, stream=True)

    @asynccontextmanager
    async def _waiting(self, deadline: float | None) -> AsyncIterator[None]:
        wait = None
        try:
            async with asyncio.timeout_at(deadline) as timeout:
                wait = Wait(timeout, asyncio.get_running_loop(), self._clock())
                with self._lock:
                    self._waits.add(wait)
                    if self.aborting:
                        timeout.reschedule(0)
                try:
                    yield
                finally:
                    with self._lock:
                        self._waits.discard(wait)
        except TimeoutError:
            if wait is not None and wait.lost:
                raise ServerLost("vLLM: the server fell silent") from None
            raise

    def abort(self) -> None:
        """End all running streams, and those still to begin until `aborting` is false again."""
        with self._lock:
            self.aborting = True
            for wait in self._waits:
                wait.loop.call_soon_threadsafe(_expire, wait.timeout)

    def give_up(self, before: float) -> None:
        """End with ServerLost what has waited since before that time of the clock."""
        with self._lock:
            for wait in self._waits:
                if wait.began < before:
                    wait.lost = True
                    wait.loop.call_soon_threadsafe(_expire, wait.timeout)

    # -- adapters ------------------------------------------------------------------------------

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the server load the adapter as `name`, unless it has. Blocks. Raises BadAdapter, and
        Unreachable."""
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        response = self._post_now("/v1/load_lora_adapter", body)
        # A name identifies its weights, so an adapter loaded already is the right one.
        if response.status_code != 200 and "already been loaded" not in response.text:
            raise BadAdapter(f"vLLM does not load {name}: {message_of(response)}")

    def unload_adapter(self, name: str) -> None:
        """Make the server drop the adapter, if it has it. Blocks. Raises EngineError."""
        response = self._post_now("/v1/unload_lora_adapter", {"lora_name": name})
        if response.status_code not in (200, 404):
            raise EngineError(f"vLLM does not unload {name}: {message_of(response)}")

    def _post_now(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            patience = httpx.Timeout(CONNECT_S, read=ADAPTER_S)
            response = self._http.post(path, json=body, timeout=patience)
        except httpx.HTTPError as error:
            raise Unreachable(_told(error)) from error
        if response.status_code in (502, 503, 504):
            raise Unreachable(message_of(response))
        return response


def _load(response: httpx.Response) -> int:
    """0 where the server does not say."""
    try:
        return int(response.json()["server_load"])
    except (ValueError, KeyError, TypeError):
        return 0


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _expire(timeout: asyncio.Timeout) -> None:
    if not timeout.expired():
        timeout.reschedule(0)
