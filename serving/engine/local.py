"""The engine in this process: requests in, deltas out, adapters that come and go.

Without `start()` the loop (loop.py) runs in the caller of `generate_batch`, which is how the learner
uses it.

A request keeps its adapter's slot until its last token. Loading a version therefore never disturbs
a running answer, and an unloaded one is dropped when its last answer is done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as SequenceOf
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from burnish.kernels.answer_states import answer_states
from burnish.kernels.formats import Cache, Weights
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, load_adapter
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.adapters import Adapters
from burnish.serving.engine.core import EngineCore
from burnish.serving.engine.loop import EngineLoop
from burnish.serving.engine.sequence import Sequence, Sink
from burnish.serving.engine.streams import Deliveries, DeltaStream
from burnish.serving.engine.types import (
    Completion,
    Delta,
    EngineStats,
    EngineStopped,
    QueueFull,
    Request,
)
from torch import Tensor

T = TypeVar("T")


class LocalEngine:
    """Serves one model and many adapters from this process."""

    def __init__(
        self,
        model: LoadedModel | Path | str,
        *,
        max_running: int = 32,
        block_size: int = 16,
        num_blocks: int | None = None,
        max_waiting: int = 256,
        max_model_len: int | None = None,
        prefill_tokens: int = 512,
        threads: int | None = None,
        speculative: bool = True,
        weights: Weights = "auto",
        kv_cache: Cache = "auto",
    ) -> None:
        """`speculative`: draft tokens from the prompt and the answer so far, while that is faster.
        `weights` and `kv_cache`: the formats in which a model that is not loaded yet is kept."""
        loaded = isinstance(model, LoadedModel)
        self.model = model if loaded else load_model(model, weights=weights, kv_cache=kv_cache)
        self.tokenizer = self.model.tokenizer
        self.model_sha256 = self.model.sha256
        self.weights: str | None = self.model.weights
        self.kv_cache: str | None = self.model.kv_cache
        self.lossless = self.model.lossless
        self.depth: int | None = self.model.config.num_hidden_layers
        self._core = EngineCore(
            self.model,
            max_running=max_running,
            block_size=block_size,
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            prefill_tokens=prefill_tokens,
            speculative=speculative,
            release=self._release,
        )
        self.max_model_len = self._core.kv.max_len
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._adapters = Adapters()
        self._deliveries = Deliveries()
        self._loop = EngineLoop(self._core, self._deliveries, threads)
        self._lock = self._loop.lock  # guards the adapters too
        self._requests = 0

    # -- requests ------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncIterator[Delta]:
        """Deltas of one answer. Closing the generator, or cancelling its task, frees the slot.

        Raises QueueFull, PromptTooLong, BadPrompt, BadGrammar, UnknownAdapter or EngineStopped before
        the first delta, and EngineError if the request or its step fails.
        """
        if self.vital is None:
            raise EngineStopped("the engine is not running")
        stream = DeltaStream()
        sequence = self._core.sequence(request, partial(self._deliveries.add, stream))
        if request.params.grammar:
            compiling = asyncio.wrap_future(self._core.grammars.compile(request.params.grammar))
            sequence.grammar = await asyncio.shield(compiling)  # others may wait for it too
        self._submit([sequence], enforce_limit=True)
        finished = False
        try:
            while not finished:
                delta = await stream.get()
                finished = delta.finish_reason is not None
                yield delta
        finally:
            if not finished:
                self._loop.cancel(sequence)

    def generate_batch(self, requests: SequenceOf[Request]) -> list[Completion]:
        """All answers, in order. Blocks; runs the loop itself where the thread is not started.

        The queue's limit does not apply. Raises what `generate` raises.
        """
        collected: list[list[Delta | Exception]] = [[] for _ in requests]
        unfinished = threading.Semaphore(0)

        def sink(into: list[Delta | Exception]) -> Sink:
            def put(delta: Delta | Exception) -> None:
                into.append(delta)
                if isinstance(delta, Exception) or delta.finish_reason is not None:
                    unfinished.release()

            return put

        pairs = zip(requests, collected, strict=True)
        sequences = [self._core.sequence(request, sink(into)) for request, into in pairs]
        for sequence in sequences:
            if sequence.request.params.grammar:
                compiling = self._core.grammars.compile(sequence.request.params.grammar)
                sequence.grammar = compiling.result()
        self._submit(sequences, enforce_limit=False)
        if self.vital is None:
            self._loop.run_until_idle()
        for _ in requests:
            unfinished.acquire()
        answers = []
        for deltas in collected:
            failed = next((d for d in deltas if isinstance(d, Exception)), None)
            if failed is not None:
                raise failed
            answers.append(Completion.join([d for d in deltas if isinstance(d, Delta)]))
        return answers

    def _submit(self, sequences: list[Sequence], enforce_limit: bool) -> None:
        with self._lock:
            self._loop.check_accepting()
            waiting = self._loop.waiting
            free_rows = self.max_running - len(self._core.scheduler.running)
            if enforce_limit and waiting >= self.max_waiting + max(0, free_rows):
                raise QueueFull(f"{waiting} requests are waiting already")
            for sequence in sequences:
                self._adapters.check(sequence.request.adapter)
            for sequence in sequences:
                sequence.slot, sequence.weights_id = self._adapters.pin(sequence.request.adapter)
            self._requests += len(sequences)
            self._loop.put(sequences)

    async def states(
        self, prompt: SequenceOf[int], answers: SequenceOf[SequenceOf[int]], layers: int
    ) -> list[Tensor]:
        """See `Engine`. Computed between steps, in pieces that take about as long as a step."""
        most = self._core.prefill_chunk * self.model.config.num_hidden_layers // layers
        pieces = answer_states(self.model, prompt, answers, layers, most)
        found: list[Tensor] = []
        while (piece := await self._between_steps(lambda: next(pieces, None))) is not None:
            found.append(piece)
        return list(torch.cat(found).split([len(prompt), *map(len, answers)]))

    async def _between_steps(self, call: Callable[[], T]) -> T:
        """What `call` returns, run between two steps."""
        returned: list[T] = []
        done = self._loop.queue(lambda: returned.append(call()))
        await asyncio.shield(asyncio.wrap_future(done))
        return returned[0]

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use."""
        with self._lock:
            return self._adapters.names

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the adapter in `folder` resident as `name`, between two steps.

        A name means one set of weights for ever: a resident one is left as it is.
        Raises AdapterError if the folder cannot be read or does not fit the model.
        """
        if name not in self.adapters:
            self.set_adapter_weights(name, load_adapter(folder))

    def set_adapter_weights(self, name: str, weights: AdapterWeights) -> None:
        """Make weights held in memory resident, as they are now. ValueError if `name` is taken."""
        adapter = self.model.prepare_adapter(weights.detached())
        with self._lock:
            slot = self._adapters.reserve(name)

        def install() -> None:
            self.model.set_adapter(slot, adapter)
            with self._lock:
                self._adapters.publish(name, slot)

        try:
            self._loop.between_steps(install)
        except BaseException:
            with self._lock:
                self._adapters.give_up(name, slot)
            raise

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name` and drop it after its last answer. UnknownAdapter."""
        with self._lock:
            slot = self._adapters.retire(name)
        if slot is not None:
            self._loop.between_steps(lambda: self._drop_adapter(slot))

    def _drop_adapter(self, slot: int) -> None:
        try:
            self.model.set_adapter(slot, None)
        finally:
            with self._lock:
                self._adapters.release(slot)

    def _release(self, sequence: Sequence) -> None:
        """A sequence has finished: drop its adapter if it is retired and this was its last request."""
        with self._lock:
            retired = self._adapters.unpin(sequence.slot)
        if retired:
            self._drop_adapter(sequence.slot)

    # -- start and stop ------------------------------------------------------------------------

    @property
    def vital(self) -> threading.Thread | None:
        """The thread of the loop. It ends when the engine is stopped, or has failed."""
        return self._loop.thread

    async def start(self) -> None:
        """Start the thread. Idempotent."""
        self._loop.start()

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; finish the running and waiting ones, or cancel them."""
        await self._loop.stop(drain)

    def stats(self) -> EngineStats:
        """Counters and gauges as of now."""
        with self._lock:
            return EngineStats(
                waiting=self._loop.waiting,
                running=len(self._core.scheduler.running),
                free_blocks=self._core.kv.pool.num_free,
                total_blocks=self._core.kv.pool.total,
                tokens_total=self._core.tokens,
                prompt_tokens_total=self._core.prompt_tokens,
                steps_total=self._core.steps,
                requests_total=self._requests,
                errors_total=self._core.errors,
                reused_total=self._core.scheduler.reused,
                preempted_total=self._core.scheduler.preempted,
                drafted_total=self._core.drafted,
                accepted_total=self._core.accepted,
                adapters=self._adapters.names,
            )
