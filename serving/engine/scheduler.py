"""What runs in the next step: admission, then prefill chunks and decode, then blocks for new tokens.

Higher priority goes first; within a priority the tenant that has been served least, by tokens
(Sheng et al., Fairness in Serving Large Language Models, OSDI 2024); within a tenant first come.
The head of the queue is never overtaken by a smaller request, so nothing starves. A sequence is
admitted when its prompt fits, and takes blocks as it grows. When none are left, the latest arrival
is preempted: it returns to the queue with what it has drawn, computes that again later and draws the
same tokens as without preemption.

Prompts are computed in chunks, beside the decoding sequences, which run in every step. The shortest
rest goes first; in every FIRST_COME_EVERYth step the earliest arrival does, so that long ones get on
too. A prompt whose prefix is cached starts after it; one whose prefix another sequence is computing
waits for that.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.sequence import Sequence

OUTPUT_COST = 2  # of a drawn token, in prompt tokens
SCORED_TOKENS = 128  # of a prompt whose log-probabilities are wanted, in one step
FIRST_COME_EVERY = 4  # steps that compute prompts


@dataclass(frozen=True)
class PrefillChunk:
    """Tokens start..end of a sequence's `prefill_ids`, to compute in this step."""

    sequence: Sequence
    start: int
    end: int

    @property
    def last(self) -> bool:
        return self.end == len(self.sequence.prefill_ids)

    @property
    def kept(self) -> int:
        """How many of its tokens, the last ones, need logits."""
        return self.end - self.start if self.sequence.scores else int(self.last)


@dataclass(frozen=True)
class SchedulerOutput:
    """One step: sequences that decode, up to `burst` tokens each or along their drafts, and prefill
    chunks. Sequences without a draft come first."""

    decode: list[Sequence]
    prefill: list[PrefillChunk]
    burst: int = 1

    def __bool__(self) -> bool:
        return bool(self.decode or self.prefill)

    @property
    def drafted(self) -> int:
        """How many draft tokens the step verifies."""
        return sum(len(sequence.draft) for sequence in self.decode)

    @property
    def scores(self) -> bool:
        """Whether the log-probabilities of a prompt are wanted."""
        return any(chunk.sequence.scores for chunk in self.prefill)

    @property
    def sequences(self) -> Iterator[Sequence]:
        yield from self.decode
        yield from (chunk.sequence for chunk in self.prefill)


class Scheduler:
    """The queue, the rows, and what each step runs."""

    def __init__(self, kv: PagedKV, max_running: int, prefill_tokens: int) -> None:
        self.kv = kv
        self.prefill_tokens = prefill_tokens  # most prompt tokens in one step
        self.running: list[Sequence] = []
        self.reused = self.preempted = 0  # tokens found in the cache, preemptions
        self.num_waiting = 0  # other threads may read it, but not `waiting`
        # By priority, then tenant: heaps of (arrival, sequence).
        self._queues: dict[int, dict[str, list[tuple[int, Sequence]]]] = {}
        self._served: defaultdict[str, float] = defaultdict(float)
        self._prefill_steps = 0
        self._rows = list(range(max_running - 1, -1, -1))
        self._arrivals = 0

    # -- the queue -----------------------------------------------------------------------------

    @property
    def waiting(self) -> list[Sequence]:
        return [
            s for tenants in self._queues.values() for heap in tenants.values() for _, s in heap
        ]

    @property
    def idle(self) -> bool:
        return not self.running and not self._queues

    def add(self, sequence: Sequence) -> None:
        self._arrivals += 1
        sequence.arrival = self._arrivals
        sequence.prefill_ids = list(sequence.request.prompt_ids)
        tenant = sequence.request.tenant
        active = {s.request.tenant for s in (*self.running, *self.waiting)}
        if tenant not in active:
            # A tenant gains no credit while it has no requests.
            least = min((self._served[t] for t in active), default=0.0)
            self._served[tenant] = max(self._served[tenant], least)
        self._enqueue(sequence)

    def _enqueue(self, sequence: Sequence) -> None:
        request = sequence.request
        tenants = self._queues.setdefault(request.priority, {})
        heapq.heappush(tenants.setdefault(request.tenant, []), (sequence.arrival, sequence))
        self.num_waiting += 1

    def _peek(self) -> Sequence | None:
        if not self._queues:
            return None
        tenants = self._queues[max(self._queues)]
        tenant = min(tenants, key=lambda t: (self._served[t], tenants[t][0][0]))
        return tenants[tenant][0][1]

    def _dequeue(self, sequence: Sequence) -> None:
        """Take a sequence out of the queue, if it is there."""
        request = sequence.request
        tenants = self._queues.get(request.priority, {})
        queued = tenants.get(request.tenant, [])
        heap = [entry for entry in queued if entry[1] is not sequence]
        if len(heap) == len(queued):
            return
        self.num_waiting -= 1
        heapq.heapify(heap)
        tenants[request.tenant] = heap
        if not heap:
            del tenants[request.tenant]
        if not tenants:
            del self._queues[request.priority]

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its row and blocks are free at once."""
        if sequence.row >= 0:
            self._free(sequence)
        else:
            self._dequeue(sequence)
        sequence.draft = []

    def _free(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._rows.append(sequence.row)
        self.kv.pool.release(sequence.blocks)
        sequence.row, sequence.blocks = -1, []

    def expired(self, now: float) -> list[tuple[Sequence, str]]:
        """Sequences that are cancelled or past their deadline, with the finish reason."""
        found = []
        for sequence in (*self.running, *self.waiting):
            if sequence.cancelled:
                found.append((sequence, "cancelled"))
            elif sequence.expires_at is not None and now >= sequence.expires_at:
                found.append((sequence, "deadline"))
        return found

    # -- a step --------------------------------------------------------------------------------

    def next_fitting(self) -> Sequence | None:
        """The waiting sequence to admit now; None if there is none, no row for it or no blocks."""
        sequence = self._peek() if self._rows else None
        if sequence is None:
            return None
        # A block to spare for each running sequence: none is admitted to be preempted at once.
        wanted = self._blocks_to_admit(sequence) + len(self.running)
        return sequence if wanted <= self.kv.pool.num_free else None

    def _blocks_to_admit(self, sequence: Sequence) -> int:
        return self.kv.blocks_for(len(sequence.prefill_ids) + 1)

    def admit(self, sequence: Sequence) -> None:
        """Move a waiting sequence into a free row."""
        self._dequeue(sequence)
        sequence.row = self._rows.pop()
        self.running.append(sequence)
        sequence.blocks = self.kv.pool.allocate(self._blocks_to_admit(sequence))
        self.kv.map_blocks(sequence.row, sequence.blocks)
        sequence.keys = self.kv.keys(
            sequence.prefill_ids[:-1],
            sequence.weights_id,
            sequence.request.tenant,
            sequence.mtp is not None,
        )
        sequence.computed = sequence.reused = 0
        sequence.scored = []
        self._served[sequence.request.tenant] += len(sequence.prefill_ids)

    def schedule(self, burst: int = 1, beside: int | None = None) -> SchedulerOutput:
        """The next step: every decoding sequence, and prefill up to the token budget, which is `beside`
        where sequences decode. A step with drafts is no burst."""
        prefill = self._prefill_chunks(beside)
        if any(chunk.sequence.scores for chunk in prefill):
            for sequence in self.running:
                sequence.draft = []
        if prefill or self._queues:
            burst = 1
        if any(sequence.draft for sequence in self.running):
            burst = 1
        decode = self._allocate_decode(burst)
        decode.sort(key=lambda s: bool(s.draft))
        prefill = [chunk for chunk in prefill if chunk.sequence.row >= 0]
        return SchedulerOutput(decode, prefill, burst)

    def _prefill_chunks(self, beside: int | None) -> list[PrefillChunk]:
        """What is computed of the prompts in the next step."""
        pending = [sequence for sequence in self.running if not sequence.prefilled]
        if not pending:
            return []
        decoding = len(pending) < len(self.running)
        budget = self.prefill_tokens if beside is None or not decoding else beside
        for sequence in pending:
            self._reuse_prefix(sequence)
        self._prefill_steps += 1
        first_come = self._prefill_steps % FIRST_COME_EVERY == 0
        pending.sort(key=lambda s: s.arrival if first_come else s.unprefilled)
        chunks, in_progress, size = [], set(), self.kv.block_size
        for sequence in pending:
            if budget <= 0:
                break
            done = sequence.computed // size
            if sequence.keys[done : done + 1] and sequence.keys[done] in in_progress:
                continue  # another sequence is computing this block
            most = min(budget, SCORED_TOKENS) if sequence.scores else budget
            end = min(len(sequence.prefill_ids), sequence.computed + most)
            in_progress.update(sequence.keys[done : end // size])
            chunks.append(PrefillChunk(sequence, sequence.computed, end))
            budget -= end - sequence.computed
        return chunks

    def update_from_output(self, scheduled: SchedulerOutput, drawn: dict[Sequence, int]) -> None:
        """Record a finished step: how many tokens were drawn for each sequence."""
        for chunk in scheduled.prefill:
            sequence = chunk.sequence
            sequence.computed = chunk.end
            size = self.kv.block_size
            for at in range(chunk.start // size, min(chunk.end // size, len(sequence.keys))):
                self.kv.pool.cache(sequence.blocks[at], sequence.keys[at])
        for sequence, count in drawn.items():
            self._served[sequence.request.tenant] += OUTPUT_COST * count

    def _reuse_prefix(self, sequence: Sequence) -> None:
        """Share the cached blocks of a prompt's prefix instead of computing them."""
        size = self.kv.block_size
        if sequence.scores:
            return  # what is not computed has no logits
        while sequence.computed % size == 0 and sequence.computed // size < len(sequence.keys):
            at = sequence.computed // size
            block = self.kv.pool.acquire_cached(sequence.keys[at])
            if block is None:
                return
            self.kv.pool.release([sequence.blocks[at]])
            sequence.blocks[at] = block
            self.kv.map_blocks(sequence.row, [block], at)
            sequence.computed += size
            sequence.reused += size
            self.reused += size

    def _allocate_decode(self, burst: int) -> list[Sequence]:
        """The decoding sequences, each with blocks for the tokens it is about to add."""
        decode = []
        for sequence in sorted((s for s in self.running if s.prefilled), key=lambda s: s.arrival):
            if sequence.row < 0:
                continue  # preempted in this very call
            held = len(sequence.request.prompt_ids) + len(sequence.tokens)
            wanted = self.kv.blocks_for(held - 1 + min(burst, sequence.remaining))
            if sequence.draft:
                with_draft = self.kv.blocks_for(held + len(sequence.draft))
                if with_draft - len(sequence.blocks) > self.kv.pool.num_free:
                    sequence.draft = []  # drafts preempt no one
                else:
                    wanted = with_draft
            while len(sequence.blocks) < wanted:
                if not self.kv.pool.num_free:
                    latest = max(self.running, key=lambda s: (-s.request.priority, s.arrival))
                    self._preempt(latest)
                    if latest is sequence:
                        break
                    continue
                (block,) = self.kv.pool.allocate(1)
                self.kv.map_blocks(sequence.row, [block], len(sequence.blocks))
                sequence.blocks.append(block)
            if sequence.row >= 0:
                decode.append(sequence)
        return [s for s in decode if s.row >= 0]

    def _preempt(self, sequence: Sequence) -> None:
        self._free(sequence)
        self.preempted += 1
        # What it has drawn is computed like a prompt; drawing continues from its last token.
        sequence.prefill_ids = [*sequence.request.prompt_ids, *sequence.tokens]
        self._enqueue(sequence)
