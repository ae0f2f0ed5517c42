"""A request in progress, as scheduler and runner see it: what is known, computed and drawn so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from burnish.serving.engine.detokenizer import IncrementalDetokenizer
from burnish.serving.engine.drafts import MTPDraft
from burnish.serving.engine.grammars import CompiledGrammar
from burnish.serving.engine.ngram_drafter import NgramDrafter
from burnish.serving.engine.paged_kv import Key
from burnish.serving.engine.types import Delta, Request, ScoredToken

Sink = Callable[[Delta | Exception], None]


@dataclass(eq=False)
class Sequence:
    """One request between its submission and its last token."""

    request: Request
    slot: int  # the adapter's slot, pinned
    weights_id: int  # of the weights in that slot; never reused
    seed: int
    max_tokens: int
    expires_at: float | None
    detokenizer: IncrementalDetokenizer
    sink: Sink
    grammar: CompiledGrammar | None = None  # that of the request
    tokens: list[int] = field(default_factory=list)  # drawn so far
    computed: int = 0  # tokens whose keys and values are in the cache
    scored: list[ScoredToken] = field(default_factory=list)  # of the prompt, if asked for
    reused: int = 0  # of these, how many were there before
    prefill_ids: list[int] = field(default_factory=list)  # tokens to compute before drawing
    drafter: NgramDrafter = field(default_factory=NgramDrafter)
    mtp: MTPDraft | None = None  # of the model's own module, while that keeps up with it
    draft: list[int] = field(default_factory=list)  # proposed for the next step
    proposer: NgramDrafter | MTPDraft | None = None  # of that draft
    row: int = -1  # -1 while waiting
    blocks: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)  # of the full blocks of `prefill_ids`
    arrival: int = 0
    cancelled: bool = False
    finished: bool = False  # it holds nothing any more

    @property
    def prefilled(self) -> bool:
        return self.computed >= len(self.prefill_ids)

    @property
    def scores(self) -> bool:
        """Whether the prompt's log-probabilities are wanted, and not told yet."""
        return self.request.params.prompt_logprobs is not None and not self.tokens

    @property
    def unprefilled(self) -> int:
        """How many tokens are to be computed before drawing."""
        return len(self.prefill_ids) - self.computed

    @property
    def remaining(self) -> int:
        """How many tokens may still be drawn."""
        return self.max_tokens - len(self.tokens)
