"""BM25: the formula by hand, and the same scores in Python, in the growing index and in Lua."""

import math
import uuid
from itertools import pairwise

import numpy as np
import pytest
from burnish.memory import MemoryStore
from burnish.memory.search.bm25 import Postings, bm25
from burnish.memory.search.terms import query_terms, terms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Few words and some compounds, so that texts share terms, repeat them and differ in length.
WORDS = st.sampled_from(["port", "billing", "max_batch_size", "batch", "8080", "Küche", "a", "the"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=20).map(" ".join), min_size=1, max_size=25)
QUERIES = st.lists(WORDS | st.just("elsewhere"), max_size=6).map(" ".join)


def test_the_formula_by_hand():
    scores = bm25("sea", ["sea of sun", "bay", "sea sea sea sea"])
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    mean = (3 + 1 + 4) / 3
    expected = [
        idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * length / mean))
        for tf, length in ((1, 3), (0, 1), (4, 4))
    ]
    assert scores.tolist() == pytest.approx(expected)


@given(texts=TEXTS, query=QUERIES, gone=st.sets(st.integers(0, 24)))
def test_the_growing_index_scores_what_is_alive_as_if_nothing_else_were_there(
    texts: list[str], query: str, gone: set[int]
):
    postings = Postings()
    for text in texts:
        postings.add(terms(text))
    alive = np.array([place not in gone for place in range(len(texts))])
    scores = postings.scores(query_terms(query), alive)
    left = [text for text, here in zip(texts, alive, strict=True) if here]
    np.testing.assert_allclose(scores[alive], bm25(query, left), rtol=1e-5, atol=1e-6)
    assert not scores[~alive].any()
    postings.keep(alive)
    again = postings.scores(query_terms(query), np.ones(len(left), bool))
    np.testing.assert_array_equal(again, scores[alive])


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=TEXTS, query=QUERIES)
async def test_lua_ranks_a_session_as_python_ranks_its_texts(
    store: MemoryStore, texts: list[str], query: str
):
    tenant = uuid.uuid4().hex
    await store.append(tenant, "s", [{"role": "user", "content": text} for text in texts])
    hits = await store.search(tenant, "s", query, limit=len(texts))
    found = {int(hit["cursor"]) - 1: hit["score"] for hit in hits}
    expected = bm25(query, texts)
    assert set(found) == set(np.flatnonzero(expected).tolist())
    for place, score in found.items():
        assert score == pytest.approx(expected[place], abs=1e-6)
    for (place, score), (after, worse) in pairwise(found.items()):
        assert score >= worse
        if texts[place] == texts[after]:
            assert place > after  # of equal steps the newer comes first
