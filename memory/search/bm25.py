"""BM25 in this process: posting lists that only grow, scored with numpy.

Robertson and Zaragoza 2009, with Lucene's idf, as rank.lua ranks steps on the server.
Documents are places 0, 1, 2, ...; the caller keeps which of them are alive. Left out:
removing (the caller renumbers with `keep` when too many are dead).
"""

from array import array
from collections.abc import Mapping, Sequence

import numpy as np

K1, B = 1.2, 0.75


class Postings:
    def __init__(self) -> None:
        self._lists: dict[str, tuple[array, array]] = {}  # term -> places, occurrences
        self._lengths = array("f")

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, counts: Mapping[str, int]) -> None:
        """One more document, at the next place."""
        place = len(self._lengths)
        for term, count in counts.items():
            places, occurrences = self._lists.setdefault(term, (array("i"), array("f")))
            places.append(place)
            occurrences.append(count)
        self._lengths.append(sum(counts.values()))

    def scores(self, query: Sequence[str], alive: np.ndarray) -> np.ndarray:
        """[n] float32 for documents `alive` [n] bool, 0 for those that share no term or are
        dead; the dead do not count in any statistic."""
        scores = np.zeros(len(self), np.float32)
        docs = int(alive.sum())
        if not docs:
            return scores
        lengths = np.frombuffer(self._lengths, np.float32)
        mean = max(float(lengths[alive].mean()), 1.0)
        for term in query:
            if term not in self._lists:
                continue
            places, occurrences = (np.frombuffer(part, part.typecode) for part in self._lists[term])
            matching = int(alive[places].sum())
            if matching:
                idf = np.log(1 + (docs - matching + 0.5) / (matching + 0.5))
                damped = occurrences + K1 * (1 - B + B * lengths[places] / mean)
                scores[places] += idf * (K1 + 1) * occurrences / damped
        scores[~alive] = 0
        return scores

    def keep(self, alive: np.ndarray) -> None:
        """Drop the dead for good and renumber the rest in order."""
        renumbered = np.cumsum(alive, dtype=np.int32) - 1
        lists, self._lists = self._lists, {}
        for term, (places, occurrences) in lists.items():
            old = np.frombuffer(places, np.int32)
            left = alive[old]
            if left.any():
                counts = np.frombuffer(occurrences, np.float32)[left]
                new = array("i", renumbered[old[left]].tobytes())
                self._lists[term] = (new, array("f", counts.tobytes()))
        kept = np.frombuffer(self._lengths, np.float32)[alive]
        self._lengths = array("f", kept.tobytes())
