"""Reciprocal-rank fusion: one ranking out of several that measure different things.

Cormack, Clarke and Buettcher 2009 (SIGIR): each list gives an item 1 / (K + rank), and the
sums decide. Only ranks count, so BM25 scores and cosines need no common scale; an item
that only one list has still counts.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

K = 60
Item = TypeVar("Item", bound=Hashable)


def fuse(rankings: Sequence[Sequence[Item]], limit: int) -> list[tuple[Item, float]]:
    """The best `limit` items with their scores; at equal scores the earlier list's comes first."""
    scores: dict[Item, float] = defaultdict(float)
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] += 1.0 / (K + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])[:limit]
