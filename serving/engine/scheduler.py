"""Who runs in the next step: admission by free rows and blocks, then decode and prefill chunks.

Higher priority first, then first come; the head of the queue is never overtaken by a smaller
request, so nothing starves. A sequence is admitted only when its worst case fits, so it is never
preempted. Left out for now: fairness between tenants, preemption.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.text import Speller, StopStrings
from burnish.serving.engine.types import Delta, Request

Sink = Callable[[Delta | Exception], None]


@dataclass(eq=False)
class Sequence:
    """A request on its way: what is known, computed and drawn so far."""

    request: Request
    slot: int  # the adapter's slot, pinned
    seed: int
    max_tokens: int
    expires_at: float | None
    speller: Speller
    stops: StopStrings
    sink: Sink
    tokens: list[int] = field(default_factory=list)  # drawn so far
    computed: int = 0  # prompt tokens whose keys and values are in the cache
    row: int = -1  # -1 while waiting
    blocks: list[int] = field(default_factory=list)
    cancelled: bool = False

    @property
    def prompt_len(self) -> int:
        return len(self.request.prompt_ids)

    @property
    def worst_case(self) -> int:
        """Positions it may come to occupy; the last drawn token is never written."""
        return self.prompt_len + self.max_tokens

    @property
    def prefilled(self) -> bool:
        return self.computed == self.prompt_len


@dataclass(frozen=True)
class Chunk:
    """Prompt tokens start..end of a sequence, to compute in this step."""

    sequence: Sequence
    start: int
    end: int


@dataclass(frozen=True)
class Plan:
    """One step: sequences that decode one token, and prompt chunks."""

    decode: list[Sequence]
    prefill: list[Chunk]

    def __bool__(self) -> bool:
        return bool(self.decode or self.prefill)

    @property
    def sequences(self) -> Iterator[Sequence]:
        yield from self.decode
        yield from (chunk.sequence for chunk in self.prefill)


class Scheduler:
    """The queue, the rows, and the plan of each step."""

    def __init__(self, kv: PagedKV, max_running: int, prefill_tokens: int) -> None:
        self.kv = kv
        self.prefill_tokens = prefill_tokens  # most prompt tokens in one step
        self.running: list[Sequence] = []
        self._waiting: list[tuple[int, int, Sequence]] = []
        self._rows = list(range(max_running - 1, -1, -1))
        self._arrivals = 0

    @property
    def waiting(self) -> list[Sequence]:
        return [entry[2] for entry in self._waiting]

    @property
    def idle(self) -> bool:
        return not self.running and not self._waiting

    def add(self, sequence: Sequence) -> None:
        self._arrivals += 1
        heapq.heappush(self._waiting, (-sequence.request.priority, self._arrivals, sequence))

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its row and blocks are free at once."""
        if sequence.row >= 0:
            self.running.remove(sequence)
            self._rows.append(sequence.row)
            self.kv.pool.give_back(sequence.blocks)
            sequence.row, sequence.blocks = -1, []
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
            heapq.heapify(self._waiting)

    def overdue(self, now: float) -> list[tuple[Sequence, str]]:
        """Sequences that must end before they are done, with the reason."""
        found = []
        for sequence in (*self.running, *(entry[2] for entry in self._waiting)):
            if sequence.cancelled:
                found.append((sequence, "cancelled"))
            elif sequence.expires_at is not None and now >= sequence.expires_at:
                found.append((sequence, "deadline"))
        return found

    def admit(self) -> list[Sequence]:
        """Move waiting sequences into free rows while the head of the queue fits."""
        admitted = []
        while self._waiting and self._rows:
            sequence = self._waiting[0][2]
            if self.kv.blocks_for(sequence.worst_case) > self.kv.pool.free:
                break
            heapq.heappop(self._waiting)
            sequence.row = self._rows.pop()
            sequence.blocks = self.kv.assign(sequence.row, sequence.worst_case)
            self.running.append(sequence)
            admitted.append(sequence)
        return admitted

    def schedule(self) -> Plan:
        """What the next step computes: every decoding sequence, and prompts up to the budget."""
        decode, prefill, budget = [], [], self.prefill_tokens
        for sequence in self.running:
            if sequence.prefilled:
                decode.append(sequence)
            elif budget > 0:
                end = min(sequence.prompt_len, sequence.computed + budget)
                prefill.append(Chunk(sequence, sequence.computed, end))
                budget -= end - sequence.computed
        return Plan(decode, prefill)
