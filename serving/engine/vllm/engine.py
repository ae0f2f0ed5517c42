"""`VllmEngine`: the engine protocol over a vLLM server.

The model folder is read for its tokenizer and hash only; text is detokenized here, by the same rules
as in our own engine. The server knows an adapter as `name-hash`: vLLM keeps its cache by name, and a
name that says which weights it means can never find another's.

vLLM's log-probabilities are those of the raw distribution (its default `--logprobs-mode`). Those of
the distribution drawn from follow where nothing changes it, and are left empty elsewhere.

Left out: tenants (vLLM serves first come, first served), and adapters that exist only in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncGenerator
from collections.abc import Sequence as SequenceOf
from contextlib import aclosing
from pathlib import Path

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
from burnish.serving.engine.vllm.client import BadAdapter, VllmClient
from burnish.serving.engine.vllm.protocol import completion_body, delta_of

log = logging.getLogger(__name__)


class VllmEngine:
    """Serves what a vLLM server at `url` serves; `folder` is the same model as files."""

    vital: threading.Thread | None = None  # the server is a process of its own
    weights: str | None = None
    kv_cache: str | None = None
    lossless = True  # as far as is known here

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
        self._client = VllmClient(url, key)
        self._base, self.max_model_len = self._client.served_model()
        self._http: httpx.AsyncClient | None = None
        self._lock = threading.Lock()  # guards all of the following
        self._resident: dict[str, tuple[str, Path]] = {}  # adapter -> the server's name, folder
        self._retired: dict[str, str] = {}  # adapters to unload after their last request
        self._users: dict[str, int] = {}  # adapter -> running requests
        self._accepting = True
        self._running = self._tokens = self._prompt_tokens = self._requests = self._errors = 0

    # -- requests ------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Deltas of one answer; closing the generator makes the server drop the request.

        Raises what LocalEngine raises, and EngineError where the server fails or goes away.
        """
        if self._http is None:
            raise EngineStopped("the engine is not running")
        async with aclosing(self._deltas(self._http, request, enforce_limit=True)) as deltas:
            async for delta in deltas:
                yield delta

    def generate_batch(self, requests: SequenceOf[Request]) -> list[Completion]:
        """All answers, in order; blocks. The limit on requests does not apply."""

        async def one(http: httpx.AsyncClient, request: Request) -> Completion:
            deltas = self._deltas(http, request, enforce_limit=False)
            return Completion.join([delta async for delta in deltas])

        async def all_answers() -> list[Completion]:
            async with self._client.connection() as http:
                return await asyncio.gather(*(one(http, request) for request in requests))

        return asyncio.run(all_answers())

    async def _deltas(
        self, http: httpx.AsyncClient, request: Request, enforce_limit: bool
    ) -> AsyncGenerator[Delta, None]:
        body = completion_body(request, self.max_model_len)
        model = self._begin(request, enforce_limit)
        loop = asyncio.get_running_loop()
        deadline = None if request.deadline_s is None else loop.time() + request.deadline_s
        detokenizer = IncrementalDetokenizer(self._vocabulary, request.params.stop)
        events = self._client.completion(
            http, {**body, "model": model}, deadline, lambda: self._reload(model)
        )
        try:
            async with aclosing(events):
                async for event in events:
                    delta = delta_of(event, request.params, detokenizer)
                    if delta is None:
                        continue
                    with self._lock:
                        self._tokens += len(delta.token_ids)
                    yield delta
                    if delta.finish_reason is not None:
                        return
        except TimeoutError:
            reason = "cancelled" if self._client.aborting else "deadline"
            yield Delta(detokenizer.flush(), finish_reason=reason)
        except EngineError:
            raise
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            # The connection, or events that are not what vLLM documents.
            with self._lock:
                self._errors += 1
            raise EngineError(f"vLLM: {type(error).__name__}: {error}") from error
        finally:
            await self._end(request)

    def _begin(self, request: Request, enforce_limit: bool) -> str:
        """Count a request in; the server's name of the model it asks for."""
        name = request.adapter
        with self._lock:
            if not self._accepting:
                raise EngineStopped("the engine is shutting down")
            if enforce_limit and self._running >= self.max_requests:
                raise QueueFull(f"{self._running} requests are with vLLM already")
            if name is not None and name not in self._resident:
                raise UnknownAdapter(f"no adapter {name!r} is resident")
            self._running += 1
            self._requests += 1
            self._prompt_tokens += len(request.prompt_ids)
            if name is None:
                return self._base
            self._users[name] = self._users.get(name, 0) + 1
            return self._resident[name][0]

    async def _end(self, request: Request) -> None:
        name, unused = request.adapter, None
        with self._lock:
            self._running -= 1
            if name is not None:
                self._users[name] -= 1
                if not self._users[name]:
                    unused = self._retired.pop(name, None)
        if unused is not None:
            await asyncio.shield(asyncio.to_thread(self._unload_or_log, unused))

    def _unload_or_log(self, remote: str) -> None:
        """The answer was given: that the server keeps an adapter too long is no failure of it."""
        try:
            self._client.unload_adapter(remote)
        except EngineError as error:
            log.warning("%s", error)

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use."""
        with self._lock:
            return tuple(self._resident)

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
        self._client.load_adapter(remote, folder)
        with self._lock:
            self._resident[name] = (remote, folder)
            self._retired.pop(name, None)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name`; the server drops it after its last answer."""
        with self._lock:
            if name not in self._resident:
                raise UnknownAdapter(f"no adapter {name!r} is resident")
            remote, _ = self._resident.pop(name)
            if self._users.get(name):
                self._retired[name] = remote
                return
        self._client.unload_adapter(remote)

    def _reload(self, remote: str) -> bool:
        """Load a resident adapter again: the server has restarted and lost it. False for none."""
        with self._lock:
            known = next((pair for pair in self._resident.values() if pair[0] == remote), None)
        if known is None:
            return False
        self._client.load_adapter(*known)
        return True

    # -- start and stop ------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the connections. Idempotent."""
        if self._http is None:
            self._http = self._client.connection()
            self._accepting, self._client.aborting = True, False

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; let the running ones finish, or end them as cancelled."""
        with self._lock:
            self._accepting = False
        if not drain:
            self._client.abort()
        while self._running:  # noqa: ASYNC110 - also of other threads' loops
            await asyncio.sleep(0.01)
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def stats(self) -> EngineStats:
        """What passed through here; the server's own cache and queue are not reported."""
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
                adapters=tuple(self._resident),
            )
