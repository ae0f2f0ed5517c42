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
import random
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as SequenceOf
from concurrent.futures import Future
from pathlib import Path

import torch
from burnish.kernels.lora import AdapterWeights, check_fits, load_adapter
from burnish.kernels.model import LoadedModel, load_model
from burnish.serving.engine.adapters import Adapters
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.runner import Runner
from burnish.serving.engine.sampler import Drawn, Sampler
from burnish.serving.engine.scheduler import Plan, Scheduler, Sequence, Sink
from burnish.serving.engine.text import StopStrings, Vocabulary
from burnish.serving.engine.types import (
    Completion,
    Delta,
    EngineError,
    EngineStats,
    EngineStopped,
    PromptTooLong,
    QueueFull,
    Request,
)

log = logging.getLogger(__name__)

KV_BYTES = 1 << 30  # cap of the default cache


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
    ) -> None:
        self.model = model if isinstance(model, LoadedModel) else load_model(model)
        self.tokenizer = self.model.tokenizer
        self.model_sha256 = self.model.sha256
        longest = min(max_model_len or self.model.max_model_len, self.model.max_model_len)
        blocks = num_blocks or self._default_blocks(max_running, longest, block_size)
        self._kv = PagedKV(self.model, max_running, longest, block_size, blocks)
        self.max_model_len = self._kv.max_len
        self.max_waiting = max_waiting
        self._scheduler = Scheduler(self._kv, max_running, prefill_tokens)
        self._runner = Runner(self.model, self._kv, max_running)
        vocab = self.model.config.vocab_size
        self._sampler = Sampler(max_running, vocab, self.model.device)
        self._vocabulary = Vocabulary(self.tokenizer, self.model.hidden_token_ids)
        self._adapters = Adapters()
        self._threads = threads
        self._wake = threading.Condition()  # guards all of the following and the adapters
        self._inbox: list[Sequence] = []
        self._errands: list[tuple[Callable[[], None], Future[None]]] = []
        self._thread: threading.Thread | None = None
        self._driving = threading.Lock()  # whoever runs steps holds it
        self._stopping = False
        self._accepting = True
        self._outgoing: dict[asyncio.AbstractEventLoop, list[tuple[_Stream, Delta | Exception]]]
        self._outgoing = defaultdict(list)
        self._tokens = self._prompt_tokens = self._steps = self._requests = self._errors = 0

    def _default_blocks(self, rows: int, longest: int, block_size: int) -> int:
        page = self.model.new_pages(1)
        per_block = block_size * sum(p.key.nbytes + p.value.nbytes for p in page)
        return max(1, min(rows * -(-longest // block_size), KV_BYTES // per_block))

    # -- requests ------------------------------------------------------------------------------

    async def generate(self, request: Request) -> AsyncIterator[Delta]:
        """Deltas of one answer. Closing the generator, or cancelling its task, frees the slot.

        Raises QueueFull, PromptTooLong, UnknownAdapter or EngineStopped before the first delta,
        and EngineError if a step fails.
        """
        if self._thread is None:
            raise EngineStopped("the engine is not running")
        stream = _Stream(self._outgoing)
        sequence = self._sequence(request, stream.put)
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
        sequences = [self._sequence(request, sink(into)) for request, into in pairs]
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

    def _sequence(self, request: Request, sink: Sink) -> Sequence:
        room = self.max_model_len - len(request.prompt_ids)
        if not request.prompt_ids:
            raise PromptTooLong("the prompt is empty")
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(request.prompt_ids)} tokens; "
                f"at most {self.max_model_len - 1} leave room for an answer"
            )
        params = request.params
        deadline = request.deadline_s
        return Sequence(
            request=request,
            slot=0,
            seed=random.getrandbits(64) if params.seed is None else params.seed,
            max_tokens=min(params.max_tokens, room),
            expires_at=None if deadline is None else time.monotonic() + deadline,
            speller=self._vocabulary.speller(),
            stops=StopStrings(params.stop),
            sink=sink,
        )

    def _submit(self, sequences: list[Sequence], limit: bool) -> None:
        with self._wake:
            if not self._accepting:
                raise EngineStopped("the engine is shutting down")
            waiting = len(self._inbox) + len(self._scheduler.waiting)
            free_rows = len(self._runner.token) - len(self._scheduler.running)
            if limit and waiting >= self.max_waiting + max(0, free_rows):
                raise QueueFull(f"{waiting} requests are waiting already")
            for sequence in sequences:
                self._adapters.check(sequence.request.adapter)
            for sequence in sequences:
                sequence.slot = self._adapters.pin(sequence.request.adapter)
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
        check_fits(self.model.model, weights)
        weights = weights.detached()
        with self._wake:
            slot = self._adapters.reserve(name)

        def place() -> None:
            self.model.set_adapter(slot, weights)
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

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the thread. Idempotent."""
        with self._wake:
            if self._thread is not None:
                return
            self._stopping, self._accepting = False, True
            self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
            self._thread.start()

    async def stop(self, drain: bool = True) -> None:
        """Take no more requests; finish the running and waiting ones, or cancel them."""
        with self._wake:
            self._accepting = False
            self._stopping = True
            if not drain:
                for sequence in (*self._inbox, *self._scheduler.waiting, *self._scheduler.running):
                    sequence.cancelled = True
            thread = self._thread
            self._wake.notify_all()
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def stats(self) -> EngineStats:
        """Counters and gauges as of now."""
        with self._wake:
            return EngineStats(
                waiting=len(self._inbox) + len(self._scheduler.waiting),
                running=len(self._scheduler.running),
                free_blocks=self._kv.pool.free,
                total_blocks=self._kv.pool.total,
                tokens_total=self._tokens,
                prompt_tokens_total=self._prompt_tokens,
                steps_total=self._steps,
                requests_total=self._requests,
                errors_total=self._errors,
                adapters=self._adapters.names,
            )

    # -- the loop ------------------------------------------------------------------------------

    def _loop(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with self._driving:
            while True:
                with self._wake:
                    while not (self._inbox or self._errands or not self._scheduler.idle):
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
                self._scheduler.add(sequence)
        for errand, done in errands:
            try:
                errand()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 - belongs to the thread that asked
                done.set_exception(error)
        for sequence, reason in self._scheduler.overdue(time.monotonic()):
            self._end(sequence, Delta(text=sequence.stops.flush(), finish_reason=reason))
        for sequence in self._scheduler.admit():
            self._runner.admit(sequence)
            self._sampler.admit(sequence.row, sequence.request.params, sequence.seed)
        plan = self._scheduler.schedule()
        if plan:
            try:
                self._step(plan)
            except Exception as error:
                log.exception("a step failed")
                self._fail(plan, error)
        self._hand_out()
        return not self._scheduler.idle or bool(self._inbox)

    def _step(self, plan: Plan) -> None:
        sequences, rows, logits = self._runner.run(plan)
        self._steps += 1
        self._prompt_tokens += sum(chunk.end - chunk.start for chunk in plan.prefill)
        if not sequences:
            return
        with torch.inference_mode():
            drawn = self._sampler.draw(logits, rows, self._runner.drawn[rows])
        self._runner.advance(rows, drawn.tokens)
        self._tokens += len(sequences)
        for at, sequence in enumerate(sequences):
            self._take(sequence, drawn, at)

    def _take(self, sequence: Sequence, drawn: Drawn, at: int) -> None:
        """Give a sequence its new token; end it where it stops."""
        token, params = drawn.tokens[at], sequence.request.params
        sequence.tokens.append(token)
        ended = token in self.model.eos_token_ids and not params.ignore_eos
        text, met = sequence.stops.push("" if ended else sequence.speller.push(token))
        reason = None
        if ended or met:
            reason = "stop"
        elif len(sequence.tokens) >= sequence.max_tokens:
            reason = "length"
        if reason is not None and not met:
            rest, met = sequence.stops.push(sequence.speller.flush())
            text += rest if met else rest + sequence.stops.flush()
        top = () if drawn.top is None else (tuple(drawn.top[at][: params.logprobs]),)
        delta = Delta(text, (token,), (drawn.raw[at],), (drawn.processed[at],), top, reason)
        if reason is None:
            sequence.sink(delta)
        else:
            self._end(sequence, delta)

    def _end(self, sequence: Sequence, last: Delta | Exception) -> None:
        with self._wake:
            self._scheduler.finish(sequence)
            retired = self._adapters.unpin(sequence.slot)
        if retired:
            self._drop(sequence.slot)
        sequence.sink(last)

    def _fail(self, plan: Plan, error: Exception) -> None:
        """A step failed: its requests are lost, the engine is not."""
        self._errors += 1
        for sequence in list(plan.sequences):
            if sequence.row >= 0:
                failure = EngineError(f"the step failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                self._end(sequence, failure)

    def _hand_out(self) -> None:
        """Wake every event loop once per step, with all that its streams gained."""
        for loop, items in list(self._outgoing.items()):
            del self._outgoing[loop]
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop is closed: nobody is left to read
                log.debug("dropped %d deltas of a closed event loop", len(items))


class _Stream:
    """One request's way back into its event loop."""

    def __init__(self, outgoing: dict[asyncio.AbstractEventLoop, list]) -> None:
        self._loop = asyncio.get_running_loop()
        self._outgoing = outgoing
        self.queue: asyncio.Queue[Delta | Exception] = asyncio.Queue()

    def put(self, item: Delta | Exception) -> None:
        """From the engine's thread; delivered at the end of the step."""
        self._outgoing[self._loop].append((self, item))

    async def get(self) -> Delta:
        item = await self.queue.get()
        if isinstance(item, Exception):
            raise item
        return item


def _deliver(items: list[tuple[_Stream, Delta | Exception]]) -> None:
    for stream, item in items:
        stream.queue.put_nowait(item)
