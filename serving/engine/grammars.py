"""Answers that keep to a grammar: which tokens may come next, by llguidance.

A grammar is what llguidance compiles: Lark, or JSON made by `json_grammar`. Left out: jump-forward
decoding of tokens that the grammar forces.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import torch
from burnish.serving.engine.types import BadGrammar

# Spaced as models write it; anything looser lets a model emit white space without end.
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

MOST_BYTES = 1 << 18  # of a grammar
MASK_S = 0.010  # for an answer's next token: all other answers wait that long
KEPT = 32  # compiled grammars


def json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON texts that a JSON Schema allows; whether it can be done, `compile` says."""
    spaced = {**schema, "x-guidance": SPACING}
    return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(spaced))


class Grammars:
    """Grammars over one tokenizer's tokens, compiled on a thread of their own.

    Those compiled last are kept, so that the choices of a request share one, and so do requests
    with the same schema.
    """

    def __init__(self, tokenizer: Any, vocab: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._ends = sorted(ends)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammars")
        self._lock = threading.Lock()  # guards what follows
        self._compiled: OrderedDict[str, Future[CompiledGrammar]] = OrderedDict()

    @cached_property
    def _tokens(self) -> Any:
        return llguidance.hf.from_tokenizer(
            self._tokenizer, n_vocab=self._vocab, eos_token=self._ends
        )

    def compile(self, grammar: str) -> Future[CompiledGrammar]:
        """The grammar, compiled or about to be. Its result raises BadGrammar with the reason."""
        with self._lock:
            found = self._compiled.get(grammar)
            if found is None:
                found = self._thread.submit(self._compile, grammar)
                self._compiled[grammar] = found
                if len(self._compiled) > KEPT:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(grammar)
            return found

    def _compile(self, grammar: str) -> CompiledGrammar:
        size = len(grammar.encode())
        if size > MOST_BYTES:
            raise BadGrammar(f"it has {size} bytes, and at most {MOST_BYTES} are followed")
        compiled = CompiledGrammar(
            llguidance.LLMatcher(self._tokens, grammar, log_level=0), self._vocab
        )
        seconds = min(compiled.seconds_of_mask() for _ in range(3))
        if seconds > MASK_S:
            raise BadGrammar(
                f"finding what may come next takes {seconds * 1000:.0f} ms a token, and at most"
                f" {MASK_S * 1000:.0f} are given; make it smaller, or more of its properties required"
            )
        return compiled


class CompiledGrammar:
    """A grammar ready to be followed by any number of answers."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        """Raises BadGrammar if `matcher` is none."""
        if matcher.is_error():
            raise BadGrammar(matcher.get_error())
        self._matcher = matcher
        self._vocab = vocab

    def matcher(self) -> Matcher:
        """A matcher for an answer without tokens yet."""
        return Matcher(self._matcher.deep_copy(), self._vocab)

    def seconds_of_mask(self) -> float:
        """How long it takes to find an answer's first token."""
        fresh = self.matcher()
        started = time.perf_counter()
        fresh.allowed()
        return time.perf_counter() - started


class Matcher:
    """The state of one answer in its grammar."""

    def __init__(self, matcher: Any, vocab: int) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocab)

    def allowed(self) -> torch.Tensor:
        """bool [V]: tokens that may come next; an end token among them once the grammar is met.

        Raises BadGrammar where that takes more than the parser's limits allow.
        """
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        bits = torch.from_numpy(self._mask[0])[:, None] >> torch.arange(32, dtype=torch.int32)
        return (bits & 1).flatten()[: self._vocab].bool()

    def accept(self, token: int) -> None:
        """Raises BadGrammar for a token that was not allowed."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadGrammar(f"the grammar cannot be followed: {self._matcher.get_error()}")
