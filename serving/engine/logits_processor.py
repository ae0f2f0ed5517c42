"""What an answer may draw next: its thinking with a budget, then its grammar.

An answer that thinks goes through `before` (it may open its thinking, or not), `inside`, `closing`
(the tokens that end it are forced) and `answer`. A grammar binds the answer alone. Where nothing
binds, tokens are drawn as ever. Left out: thinking again later in an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from burnish.serving.engine.types import Thinking

FREE = 1 << 40  # tokens that may be drawn before a guide has to be asked again


class Grammar(Protocol):
    """Where an answer stands in its grammar."""

    def allowed(self) -> torch.Tensor: ...

    def take(self, token: int) -> None: ...


class ThinkingBudget:
    """Where an answer stands in its thinking, by the tokens it has taken."""

    def __init__(self, thinking: Thinking) -> None:
        self.thinking = thinking
        self.stage = "inside" if thinking.opened else "before"
        self.tokens = 0  # of the thinking, the tags that open and end it included
        self._last: tuple[int, ...] = ()

    def take(self, token: int) -> None:
        if self.stage == "before":
            self.stage = "inside" if token == self.thinking.open else "answer"
            self.tokens = int(self.stage == "inside")
        elif self.stage == "inside":
            self.tokens += 1
            end = self.thinking.end
            self._last = (*self._last, token)[-len(end) :]
            if self._last == end:
                self.stage = "answer"


class LogitsProcessor:
    """The bounds of one answer. `drawn` are tokens it has already, if it was sent back."""

    def __init__(
        self,
        vocab: int,
        ends: torch.Tensor,
        thinking: Thinking | None,
        grammar: Grammar | None,
        drawn: Sequence[int] = (),
    ) -> None:
        self._vocab = vocab
        self._ends = ends  # bool [V]
        self._thought = ThinkingBudget(thinking) if thinking is not None else None
        self._grammar = grammar
        self._forced: tuple[int, ...] = ()  # tokens that come next, whatever the model says
        for token in drawn:
            self.take(token)
        self._close_if_spent()

    @property
    def binds(self) -> bool:
        """Whether the next token is not the model's free choice."""
        return bool(self._forced) or self._grammar is not None

    @property
    def room(self) -> int:
        """Tokens that may be drawn before looking here again."""
        if self.binds:
            return 1
        thought = self._thought
        if thought is None or thought.stage == "answer" or thought.thinking.budget is None:
            return FREE
        return max(1, thought.thinking.budget - thought.tokens)

    def allowed(self) -> torch.Tensor:
        """bool [V]: what may come next."""
        if self._forced:
            return self._only(self._forced[0])
        stage = "answer" if self._thought is None else self._thought.stage
        if self._grammar is None:
            return torch.ones(self._vocab, dtype=torch.bool)
        if stage == "inside":
            return ~self._ends  # to stop here would leave out what the grammar asks for
        allowed = self._grammar.allowed()
        if stage == "before" and self._thought is not None:
            opening = self._thought.thinking.open
            if opening is not None:
                allowed = allowed | self._only(opening)
        return allowed

    def take(self, token: int) -> None:
        """The next token of the answer."""
        if self._forced:
            self._forced = self._forced[1:]
            if self._thought is not None and self._thought.stage == "inside":
                self._thought.take(token)
            return
        thought = self._thought
        if thought is None or thought.stage == "answer":
            if self._grammar is not None:
                self._grammar.take(token)
            return
        earlier = thought.stage
        thought.take(token)
        if thought.stage == "answer" and earlier == "inside" and self._grammar is not None:
            self._forced = thought.thinking.after_end
        elif thought.stage == "answer" and earlier == "before" and self._grammar is not None:
            self._grammar.take(token)  # it does not think at all: this was the answer's first
        self._close_if_spent()

    def _close_if_spent(self) -> None:
        thought = self._thought
        if thought is None or thought.stage != "inside" or self._forced:
            return
        budget = thought.thinking.budget
        if budget is not None and thought.tokens >= budget:
            self._forced = thought.thinking.close

    def _only(self, token: int) -> torch.Tensor:
        allowed = torch.zeros(self._vocab, dtype=torch.bool)
        allowed[token] = True
        return allowed
