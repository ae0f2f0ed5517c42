"""Which tokens an answer may draw next: thinking within a budget, then a grammar.

An answer that thinks goes through `before` (it may open its thinking, or not), `inside`, `closing`
(the tokens that end it are forced) and `answer`. A grammar constrains the answer alone; one that
would be cut by its limit is led to an end that the grammar takes, as late as possible.
Left out: thinking again later in an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from burnish.serving.engine.types import Thinking

OPENED = 5  # tokens that end what one token of JSON begins, as a rule
UNBOUNDED = 1 << 40  # draws for which nothing constrains the next token


class Grammar(Protocol):
    """The state of one answer in its grammar."""

    def allowed(self) -> torch.Tensor: ...

    def accept(self, token: int) -> None: ...

    def way_out(self, most: int) -> list[int] | None:
        """Tokens that end the answer from here, not many more than must be; None if none were found
        within `most`."""
        ...


class ThinkingBudget:
    """The stage of an answer's thinking, and how many tokens it has used."""

    def __init__(self, thinking: Thinking) -> None:
        self.thinking = thinking
        self.stage = "inside" if thinking.opened else "before"
        self.tokens = 0  # of thinking, including its opening and closing tags
        self._last: tuple[int, ...] = ()

    def accept(self, token: int) -> None:
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
    """Which tokens one answer may draw. `drawn`: those it has already, if it was preempted; `limit`:
    how many it may have in all, by which a grammar is to end, or None."""

    def __init__(
        self,
        vocab: int,
        ends: torch.Tensor,
        thinking: Thinking | None,
        grammar: Grammar | None,
        drawn: Sequence[int] = (),
        limit: int | None = None,
    ) -> None:
        self._vocab = vocab
        self._ends = ends  # bool [V]
        self._thinking = ThinkingBudget(thinking) if thinking is not None else None
        self._grammar = grammar
        self._forced: tuple[int, ...] = ()  # tokens that come next, whatever the model says
        self._left = self._look_at = 0  # tokens left, and with how many left to look for an end
        for token in drawn:
            self.accept(token)
        self._close_if_spent()
        if limit is not None and grammar is not None:
            self._left = self._look_at = limit - len(drawn)
            self._end_in_time()

    @property
    def constrains(self) -> bool:
        """Whether the next token is not the model's free choice."""
        return bool(self._forced) or self._grammar is not None

    @property
    def free_draws(self) -> int:
        """Tokens that may be drawn before `allowed` has to be asked again."""
        if self.constrains:
            return 1
        state = self._thinking
        if state is None or state.stage == "answer" or state.thinking.budget is None:
            return UNBOUNDED
        return min(UNBOUNDED, max(1, state.thinking.budget - state.tokens))

    def allowed(self) -> torch.Tensor:
        """bool [V]: what may come next."""
        if self._forced:
            return self._only_token(self._forced[0])
        stage = "answer" if self._thinking is None else self._thinking.stage
        if self._grammar is None:
            return torch.ones(self._vocab, dtype=torch.bool)
        if stage == "inside":
            return ~self._ends  # ending here would omit what the grammar requires
        allowed = self._grammar.allowed()
        if stage == "before" and self._thinking is not None:
            opening = self._thinking.thinking.open
            if opening is not None:
                allowed = allowed | self._only_token(opening)
        return allowed

    def accept(self, token: int) -> None:
        """The next token of the answer."""
        self._left -= 1
        self._accept(token)
        self._end_in_time()

    def _accept(self, token: int) -> None:
        if self._forced:
            self._forced = self._forced[1:]
            if self._thinking is not None and self._thinking.stage == "inside":
                self._thinking.accept(token)
            return
        state = self._thinking
        if state is None or state.stage == "answer":
            if self._grammar is not None:
                self._grammar.accept(token)
            return
        before = state.stage
        state.accept(token)
        if state.stage == "answer" and before == "inside" and self._grammar is not None:
            self._forced = state.thinking.after_end
        elif state.stage == "answer" and before == "before" and self._grammar is not None:
            self._grammar.accept(token)  # no thinking: this was the answer's first token
        self._close_if_spent()

    def _end_in_time(self) -> None:
        """Force the way out of the grammar once there is little more room than for that. A token may
        make the way OPENED tokens longer, and that between two looks every time."""
        state = self._thinking
        answering = state is None or state.stage == "answer"
        if not answering or self._forced or not 0 < self._left <= self._look_at:
            return
        assert self._grammar is not None
        way = self._grammar.way_out(self._left)
        if way is None:
            self._look_at = self._left - max(1, self._left // 8)
        elif 1 < len(way) >= self._left - OPENED:  # 1: it may end as it is
            self._forced = tuple(way)
        else:
            self._look_at = self._left - max(1, (self._left - len(way)) // (OPENED + 1))

    def _close_if_spent(self) -> None:
        state = self._thinking
        if state is None or state.stage != "inside" or self._forced:
            return
        budget = state.thinking.budget
        if budget is not None and state.tokens >= budget:
            self._forced = state.thinking.close

    def _only_token(self, token: int) -> torch.Tensor:
        allowed = torch.zeros(self._vocab, dtype=torch.bool)
        allowed[token] = True
        return allowed
