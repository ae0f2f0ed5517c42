"""Manner: how an answer is put, read off its text: length, lists, headings, punctuation, words.

Hidden states that are averaged over an answer hardly tell any of it, and much of what people like or mind
is just that; so it stands beside them among the features. The first few are those by which LMArena tells
style from substance (Li et al., "Does style matter?", 2024); the others count what any script with Latin
punctuation shows. Left out: which words are used, and whether they are true.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

NAMES = (
    "tokens",
    "lines",
    "list items",
    "headings and bold",
    "ends by asking",
    "questions",
    "exclamations",
    "contractions",
    "commas",
    "quotes and brackets",
    "digits",
    "capitals",
    "words a sentence",
    "letters a word",
)
LEAST_WORDS = (
    20  # that counts are told per hundred of, so that a short answer's one comma is not many
)

_ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+\S")
_HEADING = re.compile(r"^#+\s", re.MULTILINE)
_CONTRACTION = re.compile(r"\w['’]\w")
_END = re.compile(r"[.!?]+(?:\s|$)")
_QUOTE = re.compile(r"[\"“”(]")


def manner(text: str, tokens: int) -> Tensor:
    """One number for each of NAMES, [M], of an answer of so many tokens; more is more of it."""
    words = text.split()
    lines = [line for line in text.splitlines() if line.strip()]
    per = 100 / max(LEAST_WORDS, len(words))

    def often(count: float) -> float:
        """Per hundred words, on a scale on which the first few weigh most."""
        return math.log1p(per * count)

    return torch.tensor(
        [
            math.log2(1 + tokens),
            math.log2(1 + len(lines)),
            sum(_ITEM.match(line) is not None for line in lines) / max(1, len(lines)),
            often(len(_HEADING.findall(text)) + text.count("**") / 2),
            float(text.rstrip().endswith("?")),
            often(text.count("?")),
            often(text.count("!")),
            often(len(_CONTRACTION.findall(text))),
            often(text.count(",")),
            often(len(_QUOTE.findall(text))),
            often(sum(map(str.isdigit, text))),
            often(sum(map(str.isupper, text))),
            math.log2(1 + len(words) / max(1, len(_END.findall(text)))),
            sum(map(len, words)) / max(1, len(words)),
        ]
    )
