"""One step of the engine: admit, schedule, execute, detokenize, emit deltas.

What fails for one request ends that request with its error and touches no other. A step that fails
as a whole ends its own requests; after FAILED_STEPS of them in a row the engine has failed.

Left out: threads. The caller lets one thread at a time into `EngineCore`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager

import torch
from burnish.kernels.folder import available_bytes
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.detokenizer import IncrementalDetokenizer, Vocabulary
from burnish.serving.engine.drafts import DraftMonitor
from burnish.serving.engine.grammars import Grammars
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.runner import ModelRunner
from burnish.serving.engine.sampler import TopLogprobs
from burnish.serving.engine.scheduler import Scheduler, SchedulerOutput
from burnish.serving.engine.sequence import Sequence, Sink
from burnish.serving.engine.types import (
    BadPrompt,
    Delta,
    EngineError,
    EngineFailed,
    PromptTooLong,
    Request,
)

log = logging.getLogger(__name__)

KV_BYTES = 1 << 30  # cap of the default cache
FAILED_STEPS = 5  # in a row, after which no step is expected to succeed
TRIES = 4  # drafts of a sequence for which multi-token prediction is tried again


class EngineCore:
    """A model, its cache and its rows. `release` is called when a sequence no longer needs its slot."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        max_running: int,
        block_size: int,
        num_blocks: int | None,
        max_model_len: int | None,
        prefill_tokens: int,
        speculative: bool,
        release: Callable[[Sequence], None],
    ) -> None:
        self.model = model
        longest = min(max_model_len or model.max_model_len, model.max_model_len)
        blocks = num_blocks or _default_blocks(model, max_running, longest, block_size)
        wanted, free = blocks * model.cache_bytes(block_size), available_bytes()
        if model.device.type == "cpu" and free is not None and wanted > free:
            raise ValueError(
                f"the KV cache needs {wanted / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB"
                " are free; let fewer requests run at once (BURNISH_MAX_RUNNING)"
            )
        self.kv = PagedKV(model, max_running, longest, block_size, blocks)
        self.scheduler = Scheduler(self.kv, max_running, prefill_tokens)
        self.grammars = Grammars(model.tokenizer, model.config.vocab_size, model.eos_token_ids)
        self.speculative = speculative and not model.recurrent
        self._runner = ModelRunner(model, self.kv, max_running, self.speculative)
        self._vocabulary = Vocabulary(model.tokenizer, model.hidden_token_ids)
        self._release = release
        self._lookup_monitor, self._mtp_monitor = DraftMonitor(), DraftMonitor()
        self._mtp_s = 0.0  # that the module took before the current step
        self.drafted = self.accepted = 0
        self.tokens = self.prompt_tokens = self.steps = self.errors = 0
        self._failed_steps = 0  # since the last one that succeeded

    def sequence(self, request: Request, sink: Sink) -> Sequence:
        """A request in the scheduler's form. Raises PromptTooLong, BadPrompt. Its grammar is the
        caller's to add."""
        max_new_tokens = self.kv.max_len - len(request.prompt_ids)
        if not request.prompt_ids:
            raise PromptTooLong("the prompt is empty")
        if max_new_tokens < 1:
            raise PromptTooLong(
                f"the prompt has {len(request.prompt_ids)} tokens; "
                f"at most {self.kv.max_len - 1} leave room for an answer"
            )
        vocab = self.model.config.vocab_size
        if min(request.prompt_ids) < 0 or max(request.prompt_ids) >= vocab:
            raise BadPrompt(f"a token of the prompt is not in the vocabulary of {vocab}")
        params = request.params
        deadline = request.deadline_s
        return Sequence(
            request=request,
            slot=0,
            weights_id=0,
            seed=random.getrandbits(64) if params.seed is None else params.seed,
            max_tokens=min(params.max_tokens, max_new_tokens),
            expires_at=None if deadline is None else time.monotonic() + deadline,
            detokenizer=IncrementalDetokenizer(self._vocabulary, params.stop),
            sink=sink,
        )

    @property
    def prefill_chunk(self) -> int:
        """How many tokens of a prompt take about as long as a decode step."""
        return self._runner.chunk

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence into the queue."""
        with self._guard(sequence):
            self.scheduler.add(sequence)

    def step(self) -> None:
        """Finish what has expired, admit what fits, and run one step. Raises EngineFailed."""
        for sequence, reason in self.scheduler.expired(time.monotonic()):
            with self._guard(sequence):
                rest = sequence.detokenizer.flush()
                self._finish(sequence, Delta(text=rest, finish_reason=reason))
        while (sequence := self.scheduler.next_fitting()) is not None:
            with self._guard(sequence):
                tried = self._mtp_monitor.worthwhile(len(self.scheduler.running) + 1)
                sequence.mtp = self._runner.mtp_draft(sequence) if tried else None
                self.scheduler.admit(sequence)
                self._runner.admit(sequence)
        scheduled = None
        try:
            self._draft()
            scheduled = self.scheduler.schedule(self._runner.burst, self._runner.chunk)
            if scheduled:
                self._run(scheduled)
        except Exception as error:  # noqa: BLE001 - a step's failure is its requests', not the engine's
            failed = scheduled.sequences if scheduled else self.scheduler.running
            self._fail_step(list(failed), error)

    def _draft(self) -> None:
        """Propose tokens for the sequences that decode, while that is faster."""
        if not self.speculative:
            return
        decoding = [sequence for sequence in self.scheduler.running if sequence.prefilled]
        size = len(decoding)
        lookup, mtp = (m.worthwhile(size) for m in (self._lookup_monitor, self._mtp_monitor))
        if not self._mtp_monitor.pays(size):
            for sequence in decoding:
                if sequence.mtp is not None and sequence.mtp.tries >= TRIES:
                    sequence.mtp = None
            mtp = True  # for those that are still tried
        started = time.perf_counter()
        if self._runner.mtp is not None:
            self._runner.mtp.propose(mtp)
        self._mtp_s = time.perf_counter() - started
        for sequence in decoding:
            with self._guard(sequence):
                self._runner.draft(sequence, lookup, mtp)

    def _run(self, scheduled: SchedulerOutput) -> None:
        size, drafted = len(scheduled.decode), bool(scheduled.drafted)
        by_mtp = any(s.draft and s.proposer is s.mtp for s in scheduled.decode)
        started, tokens_before = time.perf_counter(), self.tokens
        self._execute(scheduled)
        self._failed_steps = 0
        if not scheduled.prefill:
            seconds, tokens = time.perf_counter() - started, self.tokens - tokens_before
            if by_mtp or not drafted:
                self._mtp_monitor.record(by_mtp, size, tokens, seconds + by_mtp * self._mtp_s)
            if not by_mtp:
                self._lookup_monitor.record(drafted, size, tokens, seconds)

    def _execute(self, scheduled: SchedulerOutput) -> None:
        output = self._runner.execute(scheduled)
        self.steps += 1
        self.prompt_tokens += sum(chunk.end - chunk.start for chunk in scheduled.prefill)
        counts = output.drawn.counts.tolist()
        if scheduled.drafted:
            self.drafted += scheduled.drafted
            self.accepted += sum(counts) - len(counts)
        self.scheduler.update_from_output(
            scheduled, dict(zip(output.sequences, counts, strict=True))
        )
        tokens, raw, processed = (a.T.tolist() for a in output.drawn[:3])  # [sequence][step]
        for at, sequence in enumerate(output.sequences):
            n = counts[at]
            with self._guard(sequence):
                if sequence in output.failed:
                    raise output.failed[sequence]
                self._append(
                    sequence, tokens[at][:n], raw[at][:n], processed[at][:n], output.top[at]
                )

    def _append(
        self,
        sequence: Sequence,
        tokens: list[int],
        raw: list[float],
        processed: list[float],
        top: TopLogprobs,
    ) -> None:
        """Append new tokens to a sequence; finish it where it stops, and drop the tokens after that."""
        text, kept, reason = self._detokenize(sequence, tokens)
        begins = not sequence.tokens
        sequence.tokens += tokens[:kept]
        if reason is None and len(sequence.tokens) >= sequence.max_tokens:
            reason = "length"
            text += sequence.detokenizer.flush()
        self.tokens += kept
        delta = Delta(
            text,
            tuple(tokens[:kept]),
            tuple(raw[:kept]),
            tuple(processed[:kept]),
            (top,) if top else (),
            reason,
            sequence.detokenizer.stopped_by,
            sequence.reused if begins else 0,
            tuple(sequence.scored) if begins else (),
        )
        if reason is None:
            sequence.sink(delta)
        else:
            self._finish(sequence, delta)

    def _detokenize(self, sequence: Sequence, tokens: list[int]) -> tuple[str, int, str | None]:
        """The text of new tokens, how many of them are kept, and "stop" if the answer ends with them."""
        ends = () if sequence.request.params.ignore_eos else self.model.eos_token_ids
        detokenizer = sequence.detokenizer
        if detokenizer.plain and not any(token in ends for token in tokens):
            return detokenizer.push_all(tokens), len(tokens), None
        text = ""
        for count, token in enumerate(tokens, 1):
            ended = token in ends
            piece, stopped = detokenizer.push(token, shown=not ended)
            text += piece
            if stopped:
                return text, count, "stop"
            if ended:
                return text + detokenizer.flush(), count, "stop"
        return text, len(tokens), None

    def _finish(self, sequence: Sequence, item: Delta | Exception) -> None:
        """Free all that a sequence holds, once, and deliver its last item."""
        if not sequence.finished:
            sequence.finished = True
            self.scheduler.finish(sequence)
            self._release(sequence)
        sequence.sink(item)

    # -- failures ------------------------------------------------------------------------------

    @contextmanager
    def _guard(self, sequence: Sequence) -> Iterator[None]:
        """What fails within is the failure of this one request."""
        try:
            yield
        except Exception as error:
            log.exception("request %s failed", sequence.request.id)
            self.errors += 1
            self._fail(sequence, "the request failed", error)

    def _fail_step(self, sequences: SequenceOf[Sequence], error: Exception) -> None:
        """A step failed: its requests fail, the engine goes on, unless steps do nothing but fail."""
        log.error("a step failed", exc_info=error)
        self.errors += 1
        for sequence in sequences:
            if not sequence.finished:
                self._fail(sequence, "the step failed", error)
        self._failed_steps += 1
        if self._failed_steps >= FAILED_STEPS:
            raise EngineFailed(f"{self._failed_steps} steps in a row failed") from error

    def _fail(self, sequence: Sequence, what: str, error: Exception) -> None:
        failure = error
        if not isinstance(error, EngineError):
            failure = EngineError(f"{what}: {type(error).__name__}: {error}")
            failure.__cause__ = error
        try:
            self._finish(sequence, failure)
        except Exception:
            log.exception("request %s cannot be told that it failed", sequence.request.id)


def _default_blocks(model: LoadedModel, rows: int, longest: int, block_size: int) -> int:
    """Blocks for every row at full length, within KV_BYTES, or half of a GPU's free memory."""
    limit, per_block = KV_BYTES, model.cache_bytes(block_size)
    if model.device.type == "cuda":
        limit = torch.cuda.mem_get_info(model.device)[0] // 2
    return max(1, min(rows * -(-longest // block_size), limit // per_block))
