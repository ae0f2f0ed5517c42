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
from functools import cached_property, lru_cache
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch
from burnish.serving.engine.types import BadGrammar

# Spaced as models write it; anything looser lets a model emit white space without end.
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

# Keywords of a JSON Schema that hold no schemas, and those that hold schemas by names.
_VALUES = ("const", "default", "enum", "examples")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

MOST_BYTES = 1 << 18  # of a grammar
MASK_S = 0.010  # for an answer's next token: all other answers wait that long
KEPT = 32  # compiled grammars
WAY_OUT_S, WAY_OUT_TOKENS = 0.020, 256  # spent on finding how an answer may end
# Where several may come next, what ends JSON soonest: within a string, and elsewhere.
_QUOTE, _LETTER = '"', "q"
_CLOSERS = ("}", "]", ",", ", ", ":", _QUOTE, "0", "null", "true", "{", "[")


def json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON texts that a JSON Schema allows; whether it can be done, `compile` says."""
    return llguidance.LLMatcher.grammar_from_json_schema(json_terminal(schema))


def json_terminal(schema: Mapping[str, Any]) -> str:
    """A JSON Schema as Lark's `%json` takes it: spaced as models write."""
    return json.dumps({**_followed(schema), "x-guidance": SPACING})


def _followed(schema: Any) -> Any:
    """A schema without formats that cannot be followed: they are annotations by default
    (JSON Schema 2020-12, Validation, 7.2.1)."""
    if isinstance(schema, list):
        return [_followed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    followed = {}
    for key, value in schema.items():
        if key == "format" and isinstance(value, str) and not _knows_format(value):
            continue
        if key in _NAMED and isinstance(value, Mapping):
            followed[key] = {name: _followed(each) for name, each in value.items()}
        else:
            followed[key] = value if key in _VALUES else _followed(value)
    return followed


@lru_cache(maxsize=256)
def _knows_format(name: str) -> bool:
    text = json.dumps({"type": "string", "format": name})
    grammar = llguidance.LLMatcher.grammar_from_json_schema(text)
    return "Unknown format" not in llguidance.LLMatcher.validate_grammar(grammar, None)


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

    @cached_property
    def _closers(self) -> Closers:
        return Closers(self._tokenizer, self._ends)

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
        matcher = llguidance.LLMatcher(self._tokens, grammar, log_level=0)
        compiled = CompiledGrammar(matcher, self._vocab, self._closers)
        seconds = min(compiled.seconds_of_mask() for _ in range(3))
        if seconds > MASK_S:
            raise BadGrammar(
                f"finding what may come next takes {seconds * 1000:.0f} ms a token, and at most"
                f" {MASK_S * 1000:.0f} are given; make it smaller, or more of its properties required"
            )
        return compiled


class Closers:
    """Of the tokens that may come next, the one that ends a JSON text soonest."""

    def __init__(self, tokenizer: Any, ends: list[int]) -> None:
        self.ends = ends
        self._quote, self._letter = (_token_of(tokenizer, text) for text in (_QUOTE, _LETTER))
        found = (_token_of(tokenizer, text) for text in _CLOSERS)
        self._order = [*ends, *(token for token in found if token is not None)]

    def choose(self, mask: np.ndarray) -> int:
        """`mask` int32 [V / 32]: a bit for each token that may come next, some of them set."""
        order = self._order
        if self._quote is not None and self._letter is not None and _has(mask, self._letter):
            order = [*self.ends, self._quote]  # in a string a brace is a letter like any other
        soonest = next((token for token in order if _has(mask, token)), None)
        if soonest is not None:
            return soonest
        word = int(mask.nonzero()[0][0])
        return next(32 * word + bit for bit in range(32) if _has(mask, 32 * word + bit))


def _has(mask: np.ndarray, token: int) -> bool:
    return bool((int(mask[token >> 5]) >> (token & 31)) & 1)


def _token_of(tokenizer: Any, text: str) -> int | None:
    """The token that is this text, if there is one."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return ids[0] if len(ids) == 1 and tokenizer.decode(ids) == text else None


class CompiledGrammar:
    """A grammar ready to be followed by any number of answers."""

    def __init__(self, matcher: Any, vocab: int, closers: Closers) -> None:
        """Raises BadGrammar if `matcher` is none."""
        if matcher.is_error():
            raise BadGrammar(matcher.get_error())
        self._matcher = matcher
        self._vocab = vocab
        self._closers = closers

    def matcher(self) -> Matcher:
        """A matcher for an answer without tokens yet."""
        return Matcher(self._matcher.deep_copy(), self._vocab, self._closers)

    def seconds_of_mask(self) -> float:
        """How long it takes to find an answer's first token."""
        fresh = self.matcher()
        started = time.perf_counter()
        fresh.allowed()
        return time.perf_counter() - started


class Matcher:
    """The state of one answer in its grammar."""

    def __init__(self, matcher: Any, vocab: int, closers: Closers) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._closers = closers
        self._mask = llguidance.numpy.allocate_token_bitmask(1, vocab)

    def allowed(self) -> torch.Tensor:
        """bool [V]: tokens that may come next; an end token among them once the grammar is met.

        Raises BadGrammar where that takes more than the parser's limits allow.
        """
        bits = torch.from_numpy(self._fill())[:, None] >> torch.arange(32, dtype=torch.int32)
        return (bits & 1).flatten()[: self._vocab].bool()

    def _fill(self) -> np.ndarray:
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._mask)
        self._check()
        return self._mask[0]

    def accept(self, token: int) -> None:
        """Raises BadGrammar for a token that was not allowed."""
        self._matcher.consume_token(token)
        self._check()

    def way_out(self, most: int) -> list[int] | None:
        """Tokens that end the answer from here, not many more than must be; None if none were found
        within `most` or in time. Greedy: what the grammar forces, else what closes something."""
        ahead = Matcher(self._matcher.deep_copy(), self._vocab, self._closers)
        way: list[int] = []
        deadline = time.perf_counter() + WAY_OUT_S
        while len(way) < min(most, WAY_OUT_TOKENS) and time.perf_counter() < deadline:
            forced = ahead._matcher.compute_ff_tokens()
            step = forced or [self._closers.choose(ahead._fill())]
            for token in step:
                way.append(token)
                if token in self._closers.ends:
                    return way
                ahead.accept(token)
        return None

    def _check(self) -> None:
        if self._matcher.is_error():
            raise BadGrammar(f"the grammar cannot be followed: {self._matcher.get_error()}")
