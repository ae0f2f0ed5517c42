"""Answers that keep to a grammar: which tokens may come next, by llguidance.

A grammar is what llguidance compiles: Lark, or JSON made by `json_grammar`. Left out: jump-forward
decoding of tokens that the grammar forces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import torch
from burnish.serving.engine.types import BadGrammar

# Spaced as models write it; anything looser lets a model emit white space without end.
SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON texts that a JSON Schema allows; whether it can be done, `check` says."""
    spaced = {**schema, "x-guidance": SPACING}
    return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(spaced))


class Grammars:
    """Grammars over one tokenizer's tokens."""

    def __init__(self, tokenizer: Any, vocab: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab = vocab
        self._ends = sorted(ends)

    @cached_property
    def _tokens(self) -> Any:
        return llguidance.hf.from_tokenizer(
            self._tokenizer, n_vocab=self._vocab, eos_token=self._ends
        )

    def check(self, grammar: str) -> None:
        """BadGrammar with the reason if it does not compile."""
        try:
            failed, reasons = llguidance.LLMatcher.validate_grammar_with_warnings(
                grammar, self._tokens
            )
        except ValueError as error:
            raise BadGrammar(str(error)) from error
        if failed:
            raise BadGrammar("; ".join(reasons))

    def matcher(self, grammar: str) -> Matcher:
        """A matcher for an answer without tokens yet."""
        return Matcher(llguidance.LLMatcher(self._tokens, grammar), self._vocab)


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
