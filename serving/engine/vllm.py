"""A vLLM server behind the engine protocol: tokens in, tokens and log-probabilities out, over HTTP.

Speaks vLLM's documented API: `/v1/completions` with token ids both ways, and the endpoints that load
and unload LoRA adapters (the server needs `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1,
and must see adapter folders under the paths they have here). The model folder is read for its
tokenizer and hash only; text is spelled here, so it follows the same rules as from our own engine.

An adapter is called `name-hash` over there. vLLM keeps its cache by name, and a name that said
which weights are meant only to us could find another's.

vLLM's log-probabilities are those of the raw distribution (its default `--logprobs-mode`). Those of
the distribution drawn from follow where nothing changes it, and are left empty elsewhere.

Left out: tenants (vLLM serves first come, first served), and adapters that exist only in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from collections.abc import Sequence as SequenceOf
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from burnish.kernels.folder import frame_tokens, open_folder
from burnish.serving.engine.detokenizer import IncrementalDetokenizer, Vocabulary
from burnish.serving.engine.types import (
    Completion,
    Delta,
    EngineError,
    EngineStats,
    EngineStopped,
    QueueFull,
    Request,
    UnknownAdapter,
)
from burnish.serving.engine.vllm_api import completion_body, delta_of, message_of, refusal

CONNECT_S = 10.0


class Unreachable(EngineError, ValueError):
    """There is no vLLM server to be found under the address; the message says what was met."""


class BadAdapter(EngineError, ValueError):
    """The server does not take the adapter."""


class VllmEngine:
    """Serves what a vLLM server at `url` serves; `folder` is the same model as files."""

    def __init__(
        self, url: str, folder: Path | str, *, key: str | None = None, max_requests: int = 288
    ) -> None:
        """Raises ModelError for the folder and Unreachable for the server."""
        opened = open_folder(folder)
        self.tokenizer = opened.tokenizer
        self.model_sha256 = opened.sha256
        self.max_requests = max_requests
        self._vocabulary = Vocabulary(
            self.tokenizer, frame_tokens(self.tokenizer, opened.end_token_ids)
        )
        self._options: Any = {
            "base_url": url.rstrip("/"),
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx.Timeout(CONNECT_S, read=None),
            "limits": httpx.Limits(max_connections=None),
        }
        self._base, self.max_model_len = self._look()
        self._http: httpx.AsyncClient | None = None
        self._lock = threading.Lock()  # guards all of the following
        self._folders: dict[str, tuple[str, Path]] = {}  # adapter -> its name over there, folder
        self._retired: dict[str, str] = {}  # adapters to unload once nobody uses them, with names
        self._users: dict[str, int] = {}  # adapter -> running requests
        self._limits: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = {}
        self._accepting, self._aborting = True, False
        self._running = self._tokens = self._prompt_tokens = self._requests = self._errors = 0

    def _look(self) -> tuple[str, int]:
        """Name of the model served and its context length."""
        try:
            with httpx.Client(**self._options) as http:
                answer = http.get("/v1/models", timeout=CONNECT_S)
                answer.raise_for_status()
                cards = answer.json()["data"]
                card = next(card for card in cards if not card.get("parent"))
                return str(card["id"]), int(card["max_model_len"])
        except httpx.HTTPError as error:
            raise Unreachable(f"no vLLM server answers: {error}") from error
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise Unreachable("what answers lists no model with a max_model_len") from error

    # -- requests ------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas of one answer; closing the generator makes the server drop the request.

        Raises what LocalEngine raises, and EngineError where the server fails or goes away.
        """
        if self._http is None:
            raise EngineStopped("the engine is not running")
        async with aclosing(self._answer(self._http, request, limit=True)) as deltas:
            async for delta in deltas:
                yield delta

    def generate_batch(self, requests: SequenceOf[Request]) -> list[Completion]:
        """All answers, in order; blocks. The limit on requests does not apply."""

        async def whole(http: httpx.AsyncClient, request: Request) -> Completion:
            return Completion.join([d async for d in self._answer(http, request, limit=False)])

        async def everyone() -> list[Completion]:
            async with httpx.AsyncClient(**self._options) as http:
                return await asyncio.gather(*(whole(http, request) for request in requests))

        return asyncio.run(everyone())

    async def _answer(
        self, http: httpx.AsyncClient, request: Request, limit: bool
    ) -> AsyncGenerator[Delta, None]:
        body = completion_body(request, self.max_model_len)
        model = self._enter(request, limit)
        loop = asyncio.get_running_loop()
        until = None if request.deadline_s is None else loop.time() + request.deadline_s
        writer = IncrementalDetokenizer(self._vocabulary, request.params.stop)
        try:
            async with aclosing(self._chunks(http, {**body, "model": model}, until)) as chunks:
                async for chunk in chunks:
                    delta = delta_of(chunk, request.params, writer)
                    if delta is None:
                        continue
                    with self._lock:
                        self._tokens += len(delta.token_ids)
                    yield delta
                    if delta.finish_reason is not None:
                        return
        except TimeoutError:
            reason = "cancelled" if self._aborting else "deadline"
            yield Delta(writer.flush(), finish_reason=reason)
        except httpx.HTTPError as error:
            with self._lock:
                self._errors += 1
            raise EngineError(f"vLLM: {type(error).__name__}: {error}") from error
        finally:
            await self._leave(request)

    def _enter(self, request: Request, limit: bool) -> str:
        """Count a request in; the name of the model it asks for."""
        name = request.adapter
        with self._lock:
            if not self._accepting:
                raise EngineStopped("the engine is shutting down")
            if limit and self._running >= self.max_requests:
                raise QueueFull(f"{self._running} requests are with vLLM already")
            if name is not None and name not in self._folders:
                raise UnknownAdapter(f"no adapter {name!r} is resident")
            self._running += 1
            self._requests += 1
            self._prompt_tokens += len(request.prompt_ids)
            if name is None:
                return self._base
            self._users[name] = self._users.get(name, 0) + 1
            return self._folders[name][0]

    async def _leave(self, request: Request) -> None:
        name, dropped = request.adapter, None
        with self._lock:
            self._running -= 1
            if name is not None:
                self._users[name] -= 1
                if not self._users[name]:
                    dropped = self._retired.pop(name, None)
        if dropped is not None:
            await asyncio.shield(asyncio.to_thread(self._unload, dropped))

    async def _chunks(
        self, http: httpx.AsyncClient, body: dict[str, Any], until: float | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one streamed completion. TimeoutError at `until` and when stopped."""
        async with self._post(http, body, until) as response:
            lines = response.aiter_lines()
            while True:
                async with self._limited(until):
                    line = await anext(lines, None)
                if line is None:
                    raise EngineError("vLLM ended an answer in the middle")
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    if error := chunk.get("error"):
                        raise refusal(error.get("code", 500), str(error.get("message")), body)
                    yield chunk

    @asynccontextmanager
    async def _post(
        self, http: httpx.AsyncClient, body: dict[str, Any], until: float | None
    ) -> AsyncIterator[httpx.Response]:
        async with self._limited(until):
            response = await self._send(http, body)
            known = self._known(body["model"])
            if response.status_code == 404 and known is not None:
                # The server has started anew since the adapter was loaded.
                await response.aclose()
                await asyncio.to_thread(self._load, *known)
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
        return await http.send(
            http.build_request("POST", "/v1/completions", json=body), stream=True
        )

    def _known(self, remote: str) -> tuple[str, Path] | None:
        """The resident adapter of that name over there, with its folder."""
        with self._lock:
            return next((pair for pair in self._folders.values() if pair[0] == remote), None)

    @asynccontextmanager
    async def _limited(self, until: float | None) -> AsyncIterator[None]:
        """TimeoutError at `until`, or as soon as the engine is stopped without draining."""
        async with asyncio.timeout_at(until) as limit:
            with self._lock:
                self._limits[limit] = asyncio.get_running_loop()
                if self._aborting:
                    limit.reschedule(0)
            try:
                yield
            finally:
                with self._lock:
                    del self._limits[limit]

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use."""
        with self._lock:
            return tuple(self._folders)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the server load the adapter in `folder`, unless `name` is resident. BadAdapter."""
        if name in self.adapters:
            return
        digest = hashlib.sha256()
        try:
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                digest.update((folder / file).read_bytes())
        except OSError as error:
            raise BadAdapter(f"cannot read the adapter in {folder}: {error}") from error
        remote = f"{name}-{digest.hexdigest()[:12]}"
        self._load(remote, folder)
        with self._lock:
            self._folders[name] = (remote, folder)
            self._retired.pop(name, None)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name`; the server drops it after its last answer."""
        with self._lock:
            if name not in self._folders:
                raise UnknownAdapter(f"no adapter {name!r} is resident")
            remote, _ = self._folders.pop(name)
            if self._users.get(name):
                self._retired[name] = remote
                return
        self._unload(remote)

    def _load(self, remote: str, folder: Path) -> None:
        body = {"lora_name": remote, "lora_path": str(folder.resolve())}
        with httpx.Client(**self._options) as http:
            answer = http.post("/v1/load_lora_adapter", json=body)
        # Names say which weights are meant: one that is there already is the right one.
        if answer.status_code != 200 and "already been loaded" not in answer.text:
            raise BadAdapter(f"vLLM does not load {remote}: {message_of(answer)}")

    def _unload(self, remote: str) -> None:
        with httpx.Client(**self._options) as http:
            answer = http.post("/v1/unload_lora_adapter", json={"lora_name": remote})
        if answer.status_code not in (200, 404):
            raise EngineError(f"vLLM does not unload {remote}: {message_of(answer)}")

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the connections. Idempotent."""
        if self._http is None:
            self._http = httpx.AsyncClient(**self._options)
            self._accepting, self._aborting = True, False

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; let the running ones finish, or end them as cancelled."""
        with self._lock:
            self._accepting = False
            if not drain:
                self._aborting = True
                for limit, loop in self._limits.items():
                    loop.call_soon_threadsafe(_end_now, limit)
        while self._running:  # noqa: ASYNC110 - also of other threads' loops
            await asyncio.sleep(0.01)
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def stats(self) -> EngineStats:
        """What passed through here; the server's own cache and queue are its own affair."""
        with self._lock:
            return EngineStats(
                waiting=0,
                running=self._running,
                free_blocks=0,
                total_blocks=0,
                tokens_total=self._tokens,
                prompt_tokens_total=self._prompt_tokens,
                steps_total=0,
                requests_total=self._requests,
                errors_total=self._errors,
                reused_total=0,
                preempted_total=0,
                adapters=tuple(self._folders),
            )


def _end_now(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(0)
