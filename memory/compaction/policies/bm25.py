"""`bm25`: a short recent tail, then what shares rare words with the query, then more tail.

BM25 with the usual k1 = 1.2, b = 0.75 (Robertson and Zaragoza, 2009) over the candidates
themselves, so that it needs no index.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

from burnish.memory.compaction.policies.base import Decision, Task, newest
from burnish.memory.search.terms import query_terms, terms
from burnish.memory.sessions.plan import Verdict

K1, B = 1.2, 0.75


class Bm25:
    name = "bm25"

    def __init__(self, tail: float = 0.25) -> None:
        self.tail = tail  # of the budget

    async def decide(self, task: Task) -> Sequence[Decision]:
        # Counting the words of a long log takes a while; nobody else should wait for it.
        scores = await asyncio.to_thread(bm25, task.query, [c.unit.text for c in task.candidates])
        return fill(task, scores, self.tail, "BM25")


def bm25(query: str, texts: Sequence[str]) -> list[float]:
    """The score of each text for the query, 0 where they share no term."""
    wanted = set(query_terms(query))
    found: list[Counter[str]] = []
    lengths: list[int] = []
    for text in texts:
        counts = terms(text)
        lengths.append(counts.total())
        found.append(Counter({term: counts[term] for term in wanted if term in counts}))
    documents = Counter(term for counts in found for term in counts)
    mean = max(sum(lengths) / max(len(texts), 1), 1.0)
    idf = {t: math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for t, n in documents.items()}
    return [
        sum(
            idf[term] * tf * (K1 + 1) / (tf + K1 * (1 - B + B * length / mean))
            for term, tf in counts.items()
        )
        for counts, length in zip(found, lengths, strict=True)
    ]


def fill(task: Task, scores: Sequence[float], tail: float, what: str) -> list[Decision]:
    """A tail of that share of the budget, the best of `scores` above 0, the newest of the rest."""
    recent = newest(task, int(task.budget * tail))
    kept = dict.fromkeys(recent, "in the recent tail")
    room = task.budget - sum(task.candidates[place].tokens for place in recent)
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], -place))
    ranked = [(place, f"{what} {scores[place]:.2f}") for place in best if scores[place] > 0]
    ranked += [(p, "recent, and there was room") for p in reversed(range(len(scores)))]
    for place, why in ranked:
        if place not in kept and task.candidates[place].tokens <= room:
            kept[place] = why
            room -= task.candidates[place].tokens
    return [
        Decision(Verdict.KEEP, scores[place], kept[place])
        if place in kept
        else Decision(Verdict.DROP, scores[place], f"{what} {scores[place]:.2f}, no room")
        for place in range(len(scores))
    ]
