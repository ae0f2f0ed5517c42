"""Requests to a vLLM server: its model, streamed completions, loading and unloading LoRA adapters.

Left out: which requests and adapters there are (engine.py).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from burnish.serving.engine.types import EngineError
from burnish.serving.engine.vllm.protocol import message_of, refusal

CONNECT_S = 10.0


class Unreachable(EngineError, ValueError):
    """No vLLM server answers at the address; the message says what was found instead."""


class BadAdapter(EngineError, ValueError):
    """The server does not accept the adapter."""


class VllmClient:
    """One server. Streams end with TimeoutError at their deadline, or once `abort` is called."""

    def __init__(self, url: str, key: str | None) -> None:
        self._options: Any = {
            "base_url": url.rstrip("/"),
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(CONNECT_S, read=None),
            "limits": httpx.Limits(max_connections=None),
        }
        self.aborting = False
        self._lock = threading.Lock()  # guards `aborting` and the timeouts
        self._timeouts: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}

    def connection(self) -> httpx.AsyncClient:
        """A pool of connections; the caller closes it."""
        return httpx.AsyncClient(**self._options)

    def served_model(self) -> tuple[str, int]:
        """Name of the base model and its context length. Raises Unreachable."""
        try:
            with httpx.Client(**self._options) as http:
                response = http.get("/v1/models", timeout=CONNECT_S)
                response.raise_for_status()
                cards = response.json()["data"]
                card = next(card for card in cards if not card.get("parent"))
                return str(card["id"]), int(card["max_model_len"])
        except httpx.HTTPError as error:
            raise Unreachable(f"no vLLM server answers: {error}") from error
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise Unreachable("what answers lists no model with a max_model_len") from error

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
        sent again.
        """
        async with self._post(http, body, deadline, reload) as response:
            lines = response.aiter_lines()
            while True:
                async with self._timeout_at(deadline):
                    line = await anext(lines, None)
                if line is None:
                    raise EngineError("vLLM ended an answer in the middle")
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    if error := event.get("error"):
                        raise refusal(error.get("code", 500), str(error.get("message")), body)
                    yield event

    @asynccontextmanager
    async def _post(
        self,
        http: httpx.AsyncClient,
        body: dict[str, Any],
        deadline: float | None,
        reload: Callable[[], bool],
    ) -> AsyncIterator[httpx.Response]:
        async with self._timeout_at(deadline):
            response = await _send(http, body)
            if response.status_code == 404 and await asyncio.to_thread(reload):
                await response.aclose()
                response = await _send(http, body)
            if response.status_code != 200:
                await response.aread()
        try:
            if response.status_code != 200:
                raise refusal(response.status_code, message_of(response), body)
            yield response
        finally:
            await response.aclose()

    @asynccontextmanager
    async def _timeout_at(self, deadline: float | None) -> AsyncIterator[None]:
        async with asyncio.timeout_at(deadline) as timeout:
            with self._lock:
                self._timeouts[timeout] = asyncio.get_running_loop()
                if self.aborting:
                    timeout.reschedule(0)
            try:
                yield
            finally:
                with self._lock:
                    del self._timeouts[timeout]

    def abort(self) -> None:
        """End all running streams, and those still to begin until `aborting` is false again."""
        with self._lock:
            self.aborting = True
            for timeout, loop in self._timeouts.items():
                loop.call_soon_threadsafe(_expire, timeout)

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
            with httpx.Client(**self._options) as http:
                return http.post(path, json=body)
        except httpx.HTTPError as error:
            raise Unreachable(f"no vLLM server answers: {error}") from error


async def _send(http: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    return await http.send(http.build_request("POST", "/v1/completions", json=body), stream=True)


def _expire(timeout: asyncio.Timeout) -> None:
    if not timeout.expired():
        timeout.reschedule(0)
