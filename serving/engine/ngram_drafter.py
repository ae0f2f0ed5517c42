"""Prompt lookup: propose what followed the last tokens earlier, and see whether that pays.

Answers repeat: what they quote, code they change, JSON they fill in. The tokens that followed the
same few tokens before are computed along with the last one in a single step. At every position the
token is drawn with the very random number it would have been drawn with anyway, and proposals count
for as long as they are what was drawn; so an answer has the same tokens with and without, and its
distribution cannot change. (Saxena, Prompt Lookup Decoding, 2023; for a proposal without randomness
this is the rejection rule of Leviathan et al., 2023.)

Left out: draft models.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3  # tokens that must have stood together before
SHORTEST, LONGEST = 2, 15  # proposed at a time
MOST_REST = 64  # tokens without a proposal after misses


class NgramDrafter:
    """The history of one answer, prompt included, and how well proposals from it have done."""

    def __init__(self) -> None:
        self._history: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> place of what last followed it
        self._length = 2 * SHORTEST
        self._misses = 0
        self._rests_until = 0  # tokens of history

    def propose(self, prompt: Sequence[int], drawn: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that may follow the prompt and what was drawn; often none."""
        known = len(self._history)
        self._history += [*prompt, *drawn] if known < len(prompt) else drawn[known - len(prompt) :]
        history = self._history
        for at in range(max(known, NGRAM), len(history)):
            self._after[tuple(history[at - NGRAM : at])] = at
        if len(history) < self._rests_until:
            return []
        at = self._after.get(tuple(history[-NGRAM:]))
        return [] if at is None else history[at : at + min(self._length, most)]

    def judge(self, proposed: int, accepted: int) -> None:
        """Longer proposals where they hold, shorter ones and rests where they do not."""
        if accepted == proposed:
            self._length, self._misses = min(2 * self._length, LONGEST), 0
        elif accepted:
            self._length, self._misses = max(SHORTEST, accepted + 1), 0
        else:
            self._length = SHORTEST
            self._misses += 1
            rest = min(2**self._misses, MOST_REST)
            self._rests_until = len(self._history) + rest


class Payoff:
    """Whether steps with proposals bring more tokens a second than steps without, of late."""

    EVERY = 64  # turns after which the slower way is tried again

    def __init__(self) -> None:
        self._speed: dict[bool, float] = {}  # with proposals or without -> tokens a second
        self._turns = 0

    @property
    def pays(self) -> bool:
        if len(self._speed) < 2 or self._turns % self.EVERY == 0:
            return True
        return self._speed[True] >= self._speed[False]

    def note(self, proposed: bool, tokens: int, seconds: float) -> None:
        """A turn of decoding alone has made so many tokens."""
        self._turns += 1
        speed = tokens / max(seconds, 1e-9)
        self._speed[proposed] = 0.8 * self._speed.get(proposed, speed) + 0.2 * speed
