"""Prompt-lookup speculative decoding: draft what followed the last n-gram earlier in the text.

Answers repeat what they quote, code they change, JSON they fill in. The tokens that followed the
same n-gram before are computed along with the last one in a single step. At every position the
token is drawn with the random number it would have been drawn with anyway, and draft tokens are
accepted for as long as they are what was drawn; so an answer has the same tokens with and without, and its
distribution cannot change. (Saxena, Prompt Lookup Decoding, 2023; for a draft without randomness
this is the rejection rule of Leviathan et al., 2023.)

Left out: draft models.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3  # tokens that must have occurred together before
MIN_DRAFT, MAX_DRAFT = 2, 15  # draft tokens at a time
MAX_REST = 64  # most tokens without a draft after misses


class NgramDrafter:
    """The tokens of one sequence, and how well drafts from them were accepted."""

    def __init__(self) -> None:
        self._history: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> position of what last followed it
        self._length = 2 * MIN_DRAFT
        self._misses = 0
        self._rests_until = 0  # length of the history

    def propose(self, prompt: Sequence[int], drawn: Sequence[int], limit: int) -> list[int]:
        """At most `limit` tokens that may follow the prompt and what was drawn; often none."""
        known = len(self._history)
        self._history += [*prompt, *drawn] if known < len(prompt) else drawn[known - len(prompt) :]
        history = self._history
        for at in range(max(known, NGRAM), len(history)):
            self._after[tuple(history[at - NGRAM : at])] = at
        if len(history) < self._rests_until:
            return []
        at = self._after.get(tuple(history[-NGRAM:]))
        return [] if at is None else history[at : at + min(self._length, limit)]

    def update(self, proposed: int, accepted: int) -> None:
        """Lengthen drafts that are accepted; shorten those that are not, and pause after misses."""
        if accepted == proposed:
            self._length, self._misses = min(2 * self._length, MAX_DRAFT), 0
        elif accepted:
            self._length, self._misses = max(MIN_DRAFT, accepted + 1), 0
        else:
            self._length = MIN_DRAFT
            self._misses += 1
            rest = min(2**self._misses, MAX_REST)
            self._rests_until = len(self._history) + rest
