"""`VllmEngine`: the engine protocol over vLLM servers, one or several.

The model folder is read for its tokenizer and hash only; text is detokenized here, by the same rules
as in our own engine. A server knows an adapter as `name-hash`: vLLM keeps its cache by name, and a
name that says which weights it means can never find another's.

A request that got nothing from a server that failed is sent to another, with the same seed; an answer that had
begun ends with the failure. After two servers that may have begun on it and failed there is no third: the
request itself may be what they fail by.

vLLM's log-probabilities are those of the raw distribution (its default `--logprobs-mode`). Those of
the distribution drawn from follow where nothing changes it, and are left empty elsewhere.

Left out: tenants (vLLM serves first come, first served), and adapters that exist only in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as SequenceOf
from contextlib import aclosing
from pathlib import Path
from typing import Any, NoReturn

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
    Unsupported,
)
from burnish.serving.engine.vllm.client import connections
from burnish.serving.engine.vllm.errors import BadAdapter, ServerLost
from burnish.serving.engine.vllm.pool import Pool
from burnish.serving.engine.vllm.protocol import completion_body, delta_of
from burnish.serving.engine.vllm.routing import Prompt
from burnish.serving.engine.vllm.server import Patience, Server

log = logging.getLogger(__name__)


ENOUGH = 2  # servers that may have begun on a request and failed


class VllmEngine:
    """Serves what the vLLM servers at `urls` serve; `folder` is the same model as files."""

    weights: str | None = None
    kv_cache: str | None = None
    lossless = True  # as far as is known here
    depth: int | None = None

    def __init__(
        self,
        urls: str | SequenceOf[str],
        folder: Path | str,
        *,
        key: str | None = None,
        max_requests: int = 288,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ModelError for the folder, and Unreachable if none of the servers answers."""
        opened = open_folder(folder)
        self.tokenizer = opened.tokenizer
        self.model_sha256 = opened.sha256
        self.max_requests = max_requests
        self._vocabulary = Vocabulary(
            self.tokenizer, frame_tokens(self.tokenizer, opened.end_token_ids)
        )
        self._key = key
        self.pool = Pool([urls] if isinstance(urls, str) else urls, key, patience, clock)
        self.max_model_len = self.pool.max_model_len
        self._http: httpx.AsyncClient | None = None
        self._lock = threading.Lock()  # guards all of the following
        self._resident: dict[str, str] = {}  # adapter -> the servers' name of it
        self._retired: dict[str, str] = {}  # adapters to unload after their last request
        self._users: dict[str, int] = {}  # adapter -> running requests
        self._accepting = True
        self._running = self._tokens = self._prompt_tokens = self._requests = self._errors = 0

    @property
    def vital(self) -> threading.Thread | None:
        """The servers are processes of their own; what looks after them is not."""
        watchers = self.pool.watchers
        ended = (thread for thread in watchers if not thread.is_alive())
        return next(ended, watchers[0] if watchers else None)

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
            async with connections(self._key) as http:
                return await asyncio.gather(*(one(http, request) for request in requests))

        return asyncio.run(all_answers())

    async def _deltas(
        self, http: httpx.AsyncClient, request: Request, enforce_limit: bool
    ) -> AsyncGenerator[Delta, None]:
        body = completion_body(request, self.max_model_len)
        adapter = self._begin(request, enforce_limit)
        loop = asyncio.get_running_loop()
        deadline = None if request.deadline_s is None else loop.time() + request.deadline_s
        prompt = Prompt.of(request.prompt_ids, adapter)
        tried: dict[Server, EngineError] = {}
        begun = False
        try:
            while True:
                with self.pool.lend(prompt, adapter, tried) as server:
                    asked = {**body, "model": adapter or server.model}
                    try:
                        deltas = self._answer(http, server, request, asked, adapter, deadline)
                        async with aclosing(deltas):
                            async for delta in deltas:
                                begun = True
                                yield delta
                        return
                    except (ServerLost, QueueFull, BadAdapter, UnknownAdapter) as error:
                        tried[server] = error
                        if isinstance(error, ServerLost):
                            self.pool.failed(server, error)
                        if begun:
                            raise
                lost = [e for e in tried.values() if isinstance(e, ServerLost) and e.taken]
                if len(lost) >= ENOUGH:
                    raise self.pool.gave_up(tried)
        except ServerLost:
            self._count_error()
            raise
        finally:
            await self._end(request)

    async def _answer(
        self,
        http: httpx.AsyncClient,
        server: Server,
        request: Request,
        body: dict[str, Any],
        adapter: str | None,
        deadline: float | None,
    ) -> AsyncGenerator[Delta, None]:
        """What one server answers. Raises ServerLost."""
        detokenizer = IncrementalDetokenizer(self._vocabulary, request.params.stop)
        events = server.client.completion(
            http, body, deadline, lambda: self.pool.reload(server, adapter)
        )
        try:
            async with aclosing(events):
                async for event in events:
                    delta = delta_of(event, request.params, detokenizer)
                    if delta is None:
                        continue
                    self.pool.count_tokens(server, len(delta.token_ids))
                    with self._lock:
                        self._tokens += len(delta.token_ids)
                    yield delta
                    if delta.finish_reason is not None:
                        return
        except TimeoutError:
            reason = "cancelled" if server.client.aborting else "deadline"
            yield Delta(detokenizer.flush(), finish_reason=reason)
        except EngineError:
            raise
        except (ValueError, LookupError, TypeError) as error:  # not what vLLM documents
            self._count_error()
            raise EngineError(f"vLLM: {type(error).__name__}: {error}") from error

    def _begin(self, request: Request, enforce_limit: bool) -> str | None:
        """Count a request in; the servers' name of its adapter."""
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
                return None
            self._users[name] = self._users.get(name, 0) + 1
            return self._resident[name]

    def _count_error(self) -> None:
        with self._lock:
            self._errors += 1

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
            self.pool.unload(remote)
        except EngineError as error:
            log.warning("%s", error)

    async def states(
        self, prompt: SequenceOf[int], answers: SequenceOf[SequenceOf[int]], layers: int
    ) -> NoReturn:
        """A server tells no hidden states."""
        raise Unsupported("states", "vLLM tells no hidden states")

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use."""
        with self._lock:
            return tuple(self._resident)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make all servers load the adapter in `folder`, unless `name` is resident.

        Raises BadAdapter if one refuses it, and Unreachable if none answers.
        """
        if name in self.adapters:
            return
        digest = hashlib.sha256()
        try:
            for file in ("adapter_config.json", "adapter_model.safetensors"):
                digest.update((folder / file).read_bytes())
        except OSError as error:
            raise BadAdapter(f"cannot read the adapter in {folder}: {error}") from error
        remote = f"{name}-{digest.hexdigest()[:12]}"
        self.pool.load(remote, folder)
        with self._lock:
            self._resident[name] = remote
            self._retired.pop(name, None)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name`; the servers drop it after its last answer."""
        with self._lock:
            if name not in self._resident:
                raise UnknownAdapter(f"no adapter {name!r} is resident")
            remote = self._resident.pop(name)
            if self._users.get(name):
                self._retired[name] = remote
                return
        self.pool.unload(remote)

    # -- start and stop ------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the connections, and look after the servers. Idempotent."""
        if self._http is None:
            self._http = connections(self._key)
            self._accepting = True
            self.pool.resume()
            self.pool.watch()

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; let the running ones finish, or end them as cancelled."""
        with self._lock:
            self._accepting = False
        if not drain:
            self.pool.abort()
        while self._running:  # noqa: ASYNC110 - also of other threads' loops
            await asyncio.sleep(0.01)
        self.pool.unwatch()
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def stats(self) -> EngineStats:
        """What passed through here; the servers' own caches and queues are not reported."""
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
                servers=self.pool.stats(),
            )
