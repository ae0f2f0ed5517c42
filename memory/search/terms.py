"""Tokenisation for search: text to the terms that BM25 counts.

Words are case-folded runs of letters, digits and underscores; an identifier also
counts by its parts (`max_batch_size` is found by "batch"). Left out on purpose:
stemming and stop words. Stemmers are per language, and rare terms decide BM25
anyway; the ranking script skips the commonest terms when a query has many.
"""

import re
from collections import Counter

MAX_TERM = 64
MAX_TERMS = 2048
MAX_QUERY_TERMS = 48

_WORD = re.compile(r"\w+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def terms(text: str) -> Counter[str]:
    """Term -> occurrences, at most MAX_TERMS distinct ones (the first met)."""
    counts: Counter[str] = Counter()
    for match in _WORD.finditer(text):
        for term in _spellings(match.group()):
            if term in counts or len(counts) < MAX_TERMS:
                counts[term] += 1
    return counts


def query_terms(text: str) -> list[str]:
    """The distinct terms of a query, most frequent first, capped."""
    return [term for term, _ in terms(text).most_common(MAX_QUERY_TERMS)]


def _spellings(word: str) -> list[str]:
    whole = word.casefold()[:MAX_TERM]
    parts = [part.casefold()[:MAX_TERM] for part in _CAMEL.sub("_", word).split("_") if part]
    if not parts or parts == [whole]:
        return [whole]
    return list(dict.fromkeys([whole, *parts]))
