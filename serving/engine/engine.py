"""The engine: one thread that repeats `schedule -> run -> draw -> hand out`, and its async face.

Everything that touches the model happens in that thread, between two steps or within one; other
threads only leave messages. Without `start()` the same loop runs in the caller of
`generate_batch`, which is how the learner uses it.

A request keeps its adapter's slot until its last token. Loading a version therefore never disturbs
a running answer, and an unloaded one goes away when its last answer is done.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights, load_adapter
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import pooling
from burnish.serving.engine.adapters import Adapters
from burnish.serving.engine.core import Core
from burnish.serving.engine.runner import BURST_S
from burnish.serving.engine.scheduler import Sequence, Sink
from burnish.serving.engine.types import (
    Completion,
    Delta,
    EngineStats,
    EngineStopped,
    QueueFull,
    Request,
)

log = logging.getLogger(__name__)


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
        lookup: bool = True,
    ) -> None:
        """`lookup`: propose tokens from what the answer and its prompt said before, where it pays."""
        self.model = model if isinstance(model, LoadedModel) else load_model(model)
        self.tokenizer = self.model.tokenizer
        self.model_sha256 = self.model.sha256
        self._core = Core(
            self.model,
            max_running=max_running,
            block_size=block_size,
            num_blocks=num_blocks,
            max_model_len=max_model_len,
            prefill_tokens=prefill_tokens,
            lookup=lookup,
            release=self._release,
        )
        self.max_model_len = self._core.kv.max_len
        self.max_running = max_running
        self.max_waiting = max_waiting
        self._adapters = Adapters()
        self._threads = threads
        self._wake = threading.Condition()  # guards all of the following and the adapters
        self._inbox: list[Sequence] = []
        self._errands: list[tuple[Callable[[], None], Future[None]]] = []
        self._thread: threading.Thread | None = None
        self._driving = threading.Lock()  # whoever runs steps holds it
        self._stopping = False
        self._accepting = True
        self._aborting = False
        self._outgoing: defaultdict[_Stream, list[Delta | Exception]] = defaultdict(list)
        self._handed_out = 0.0  # when every stream last got what it had gained
        self._requests = 0

    # -- requests ------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncIterator[Delta]:
        """Deltas of one answer. Closing the generator, or cancelling its task, frees the slot.

        Raises QueueFull, PromptTooLong, UnknownAdapter or EngineStopped before the first delta,
        and EngineError if a step fails.
        """
        if self._thread is None:
            raise EngineStopped("the engine is not running")
        stream = _Stream()
        sequence = self._core.sequence(request, lambda item: self._outgoing[stream].append(item))
        self._submit([sequence], limit=True)
        finished = False
        try:
            while not finished:
                delta = await stream.get()
                finished = delta.finish_reason is not None
                yield delta
        finally:
            if not finished:
                self._cancel(sequence)

    def generate_batch(self, requests: SequenceOf[Request]) -> list[Completion]:
        """All answers, in order. Blocks; runs the loop itself where the thread is not started.

        The queue's limit does not apply. Raises what `generate` raises.
        """
        gathered: list[list[Delta | Exception]] = [[] for _ in requests]
        left = threading.Semaphore(0)

        def sink(into: list[Delta | Exception]) -> Sink:
            def put(delta: Delta | Exception) -> None:
                into.append(delta)
                if isinstance(delta, Exception) or delta.finish_reason is not None:
                    left.release()

            return put

        pairs = zip(requests, gathered, strict=True)
        sequences = [self._core.sequence(request, sink(into)) for request, into in pairs]
        self._submit(sequences, limit=False)
        if self._thread is None:
            with self._driving:
                while self._turn():
                    pass
        for _ in requests:
            left.acquire()
        answers = []
        for deltas in gathered:
            failed = next((d for d in deltas if isinstance(d, Exception)), None)
            if failed is not None:
                raise failed
            answers.append(Completion.join([d for d in deltas if isinstance(d, Delta)]))
        return answers

    def _submit(self, sequences: list[Sequence], limit: bool) -> None:
        with self._wake:
            if not self._accepting:
                raise EngineStopped("the engine is shutting down")
            waiting = len(self._inbox) + len(self._core.scheduler.waiting)
            free_rows = self.max_running - len(self._core.scheduler.running)
            if limit and waiting >= self.max_waiting + max(0, free_rows):
                raise QueueFull(f"{waiting} requests are waiting already")
            for sequence in sequences:
                self._adapters.check(sequence.request.adapter)
            for sequence in sequences:
                sequence.slot, sequence.mark = self._adapters.pin(sequence.request.adapter)
                self._inbox.append(sequence)
            self._requests += len(sequences)
            self._wake.notify_all()

    def _cancel(self, sequence: Sequence) -> None:
        with self._wake:
            sequence.cancelled = True
            self._wake.notify_all()

    # -- adapters ------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may use."""
        with self._wake:
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
        with self._wake:
            slot = self._adapters.reserve(name)

        def place() -> None:
            self.model.set_adapter(slot, adapter)
            with self._wake:
                self._adapters.publish(name, slot)

        self._between_steps(place)

    def unload_adapter(self, name: str) -> None:
        """Refuse new requests for `name` and drop it after its last answer. UnknownAdapter."""
        with self._wake:
            slot = self._adapters.retire(name)
        if slot is not None:
            self._between_steps(lambda: self._drop(slot))

    def _drop(self, slot: int) -> None:
        self.model.set_adapter(slot, None)
        with self._wake:
            self._adapters.release(slot)

    def _between_steps(self, errand: Callable[[], None]) -> None:
        """Run `errand` while no step runs, and wait for it."""
        with self._wake:
            if self._thread is not None and threading.current_thread() is not self._thread:
                done: Future[None] = Future()
                self._errands.append((errand, done))
                self._wake.notify_all()
            else:
                done = Future()
                done.set_result(None)
                errand()
        done.result()

    # -- embedding -----------------------------------------------------------------------------

    async def embed(self, sequences: SequenceOf[SequenceOf[int]]) -> np.ndarray:
        """Hidden states of the base half-way up, averaged over each text: [n, H], rows of length 1.

        Read between steps, a few hundred tokens at a time, so that running answers go on.
        Raises EngineStopped.
        """
        sums = np.zeros((len(sequences), self.model.config.hidden_size), np.float32)
        for batch in pooling.batches(sequences):
            if not self._accepting:
                raise EngineStopped("the engine is shutting down")
            read = partial(pooling.add_states, self.model, batch, sums)
            await asyncio.to_thread(self._between_steps, read)
        return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread. Idempotent."""
        with self._wake:
            if self._thread is not None:
                return
            self._stopping, self._aborting, self._accepting = False, False, True
            self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
            self._thread.start()

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; finish the running and waiting ones, or cancel them."""
        with self._wake:
            self._accepting = False
            self._stopping = True
            self._aborting = not drain
            thread = self._thread
            self._wake.notify_all()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def stats(self) -> EngineStats:
        """Counters and gauges as of now."""
        with self._wake:
            return EngineStats(
                waiting=len(self._inbox) + len(self._core.scheduler.waiting),
                running=len(self._core.scheduler.running),
                free_blocks=self._core.kv.pool.free,
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

    # -- the loop ------------------------------------------------------------------------------

    def _loop(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with self._driving:
            while True:
                with self._wake:
                    while not (self._inbox or self._errands or not self._core.scheduler.idle):
                        if self._stopping:
                            self._thread = None
                            return
                        self._wake.wait()
                self._turn()

    def _turn(self) -> bool:
        """Errands, newcomers, and one step; whether there may be more to do."""
        with self._wake:
            errands, self._errands = self._errands, []
            newcomers, self._inbox = self._inbox, []
            for sequence in newcomers:
                self._core.scheduler.add(sequence)
        for errand, done in errands:
            try:
                errand()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 - belongs to the thread that asked
                done.set_exception(error)
        if self._aborting:
            for sequence in (*self._core.scheduler.waiting, *self._core.scheduler.running):
                sequence.cancelled = True
        began = time.monotonic()
        self._core.turn()
        self._hand_out(began)
        return not self._core.scheduler.idle or bool(self._inbox)

    def _release(self, sequence: Sequence) -> None:
        """A sequence is over: drop its adapter if it was the last to keep it."""
        with self._wake:
            retired = self._adapters.unpin(sequence.slot)
        if retired:
            self._drop(sequence.slot)

    def _hand_out(self, began: float) -> None:
        """Give the streams what they have gained, waking each event loop once.

        A stream waits for no more than the length of a burst, unless a step (the last one `began`
        then) takes longer. So many short steps cost its readers no more than one long one.
        First tokens and ends do not wait.
        """
        if not self._outgoing:
            return
        now = time.monotonic()
        everyone = now - self._handed_out + (now - began) >= BURST_S
        if everyone:
            self._handed_out = now
        ready: defaultdict[asyncio.AbstractEventLoop, list[tuple[_Stream, list]]]
        ready = defaultdict(list)
        for stream, items in list(self._outgoing.items()):
            if everyone or stream.urgent(items[-1]):
                ready[stream.loop].append((stream, self._outgoing.pop(stream)))
        for loop, gained in ready.items():
            try:
                loop.call_soon_threadsafe(_deliver, gained)
            except RuntimeError:  # the loop is closed: nobody is left to read
                log.debug("dropped what %d streams of a closed event loop gained", len(gained))


class _Stream:
    """One request's way back into its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[list[Delta | Exception]] = asyncio.Queue()
        self._begun = False

    def urgent(self, newest: Delta | Exception) -> bool:
        """Whether the answer has just begun, or is over."""
        begins, self._begun = not self._begun, True
        return begins or isinstance(newest, Exception) or newest.finish_reason is not None

    async def get(self) -> Delta:
        """All that has come since the last call. Raises what the engine handed out instead."""
        items = await self.queue.get()
        while not self.queue.empty():
            items += self.queue.get_nowait()
        if isinstance(items[-1], Exception):
            raise items[-1]
        return Delta.join([item for item in items if isinstance(item, Delta)])


def _deliver(gained: list[tuple[_Stream, list[Delta | Exception]]]) -> None:
    for stream, items in gained:
        stream.queue.put_nowait(items)
