"""One turn of the engine: admit, schedule, run, draw, hand out. No threads in here.

`Core` belongs to whoever drives it; the engine sees to it that this is one thread at a time.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import torch
from burnish.kernels.folder import available_bytes
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.detokenizer import IncrementalDetokenizer, Vocabulary
from burnish.serving.engine.ngram_drafter import Payoff
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.runner import Runner
from burnish.serving.engine.sampler import Top
from burnish.serving.engine.scheduler import Plan, Scheduler, Sequence, Sink
from burnish.serving.engine.types import Delta, EngineError, PromptTooLong, Request

log = logging.getLogger(__name__)

KV_BYTES = 1 << 30  # cap of the default cache


class Core:
    """A model, its cache and its rows. `release` is told when a sequence needs its slot no more."""

    def __init__(
        self,
        model: LoadedModel,
        *,
        max_running: int,
        block_size: int,
        num_blocks: int | None,
        max_model_len: int | None,
        prefill_tokens: int,
        lookup: bool,
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
        self._runner = Runner(model, self.kv, max_running)
        self._vocabulary = Vocabulary(model.tokenizer, model.hidden_token_ids)
        self._release = release
        self.lookup = lookup and not model.recurrent
        self._payoff = Payoff()
        self.drafted = self.accepted = 0
        self.tokens = self.prompt_tokens = self.steps = self.errors = 0

    def sequence(self, request: Request, sink: Sink) -> Sequence:
        """A request as the scheduler takes it; PromptTooLong or BadGrammar if it cannot be."""
        room = self.kv.max_len - len(request.prompt_ids)
        if not request.prompt_ids:
            raise PromptTooLong("the prompt is empty")
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {len(request.prompt_ids)} tokens; "
                f"at most {self.kv.max_len - 1} leave room for an answer"
            )
        params = request.params
        if params.grammar:
            self._runner.grammars.check(params.grammar)
        deadline = request.deadline_s
        return Sequence(
            request=request,
            slot=0,
            mark=0,
            seed=random.getrandbits(64) if params.seed is None else params.seed,
            max_tokens=min(params.max_tokens, room),
            expires_at=None if deadline is None else time.monotonic() + deadline,
            writer=IncrementalDetokenizer(self._vocabulary, params.stop),
            sink=sink,
        )

    def turn(self) -> None:
        """End what must end, admit what fits, and run one step."""
        for sequence, reason in self.scheduler.overdue(time.monotonic()):
            self._end(sequence, Delta(text=sequence.writer.flush(), finish_reason=reason))
        for sequence in self.scheduler.admit():
            self._runner.admit(sequence)
        guess = self._runner.draft if self.lookup and self._payoff.pays else None
        plan = self.scheduler.schedule(self._runner.burst, guess)
        if not plan:
            return
        began, before = time.perf_counter(), self.tokens
        try:
            self._step(plan)
        except Exception as error:
            log.exception("a step failed")
            self._fail(plan, error)
            return
        if not plan.prefill:
            seconds = time.perf_counter() - began
            self._payoff.note(bool(plan.drafted), self.tokens - before, seconds)

    def _step(self, plan: Plan) -> None:
        outcome = self._runner.run(plan)
        self.steps += 1
        self.prompt_tokens += sum(chunk.end - chunk.start for chunk in plan.prefill)
        made = outcome.drawn.counts.tolist()
        if plan.drafted:
            self.drafted += plan.drafted
            self.accepted += sum(made) - len(made)
        self.scheduler.computed(plan, dict(zip(outcome.sequences, made, strict=True)))
        tokens, raw, processed = (a.T.tolist() for a in outcome.drawn[:3])  # [sequence][step]
        for at, sequence in enumerate(outcome.sequences):
            n = made[at]
            self._take(sequence, tokens[at][:n], raw[at][:n], processed[at][:n], outcome.top[at])

    def _take(
        self,
        sequence: Sequence,
        tokens: list[int],
        raw: list[float],
        processed: list[float],
        top: Top,
    ) -> None:
        """Give a sequence its new tokens; end it where it stops, and drop what lies beyond."""
        text, kept, reason = self._write(sequence, tokens)
        sequence.tokens += tokens[:kept]
        if reason is None and len(sequence.tokens) >= sequence.max_tokens:
            reason = "length"
            text += sequence.writer.flush()
        self.tokens += kept
        delta = Delta(
            text,
            tuple(tokens[:kept]),
            tuple(raw[:kept]),
            tuple(processed[:kept]),
            (top,) if top else (),
            reason,
        )
        if reason is None:
            sequence.sink(delta)
        else:
            self._end(sequence, delta)

    def _write(self, sequence: Sequence, tokens: list[int]) -> tuple[str, int, str | None]:
        """What new tokens spell, how many of them count, and "stop" if the answer ends with them."""
        ends = () if sequence.request.params.ignore_eos else self.model.eos_token_ids
        writer = sequence.writer
        if writer.plain and not any(token in ends for token in tokens):
            return writer.push_all(tokens), len(tokens), None
        text = ""
        for count, token in enumerate(tokens, 1):
            ended = token in ends
            more, met = writer.push(token, shown=not ended)
            text += more
            if met:
                return text, count, "stop"
            if ended:
                return text + writer.flush(), count, "stop"
        return text, len(tokens), None

    def _end(self, sequence: Sequence, last: Delta | Exception) -> None:
        self._release(sequence)
        self.scheduler.finish(sequence)
        sequence.sink(last)

    def _fail(self, plan: Plan, error: Exception) -> None:
        """A step failed: its requests are lost, the engine is not."""
        self.errors += 1
        for sequence in list(plan.sequences):
            if sequence.row >= 0:
                failure = EngineError(f"the step failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                self._end(sequence, failure)


def _default_blocks(model: LoadedModel, rows: int, longest: int, block_size: int) -> int:
    """Room for every row at full length, within KV_BYTES, or half of what a GPU has free."""
    room, per_block = KV_BYTES, model.cache_bytes(block_size)
    if model.device.type == "cuda":
        room = torch.cuda.mem_get_info(model.device)[0] // 2
    return max(1, min(rows * -(-longest // block_size), room // per_block))
