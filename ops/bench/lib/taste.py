"""Taste read off a text: what simulated users like or dislike about any answer, whatever it is about.

Six features, each a number that a person would agree with by looking: how long it is, whether it is a
list, greets, hedges, ends by asking back, and how formal it sounds. Left out: whether it is true or of
any help.
"""

from __future__ import annotations

import math
import re

FEATURES = ("length", "lists", "greeting", "hedging", "question", "formality")

_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S")
_GREETING = re.compile(
    r"\W*(?:hi|hey|hello|dear|greetings|welcome|good (?:morning|afternoon|evening|day))\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|likely|might|may|could|usually|generally|often|sometimes"
    r"|seems?|i think|i believe|it depends|tends? to)\b",
    re.IGNORECASE,
)
_CASUAL = re.compile(r"!|\b\w+['’](?:s|t|re|ve|ll|d|m)\b", re.IGNORECASE)
_ASKS = re.compile(r"\?[\"'”’)\]*\s]*$")


def features_of(text: str) -> tuple[float, ...]:
    """One number for each of FEATURES, in their order; more is more of it."""
    words = len(text.split())
    lines = [line for line in text.splitlines() if line.strip()]
    return (
        math.log2(1 + words),
        sum(_ITEM.match(line) is not None for line in lines) / max(1, len(lines)),
        float(_GREETING.match(text) is not None),
        _per_hundred_words(len(_HEDGE.findall(text)), words),
        float(_ASKS.search(text) is not None),
        -_per_hundred_words(len(_CASUAL.findall(text)), words),
    )


def _per_hundred_words(count: int, words: int) -> float:
    """On a scale on which the first few weigh most."""
    return math.log1p(100 * count / max(20, words))
