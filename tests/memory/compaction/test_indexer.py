"""The indexer: DeepSeek's score over steps, cached beside the log, erased with its steps."""

import numpy as np
import pytest
import redis
from burnish.memory import MemoryStore, PolicyFailed, connect
from burnish.memory.compaction.policies import CompactionPolicies
from burnish.memory.compaction.policies.indexer import IndexerPolicy, heads, score
from burnish.memory.search.embedding import HashingEmbedder
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.memory.conftest import count_words
from tests.memory.sessions.test_sessions import called, result
from tests.memory.views.test_default_view import long_session


class Counting(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.broken = False

    async def embed(self, texts):
        if self.broken:
            raise PolicyFailed("the model is away")
        self.texts += texts
        return await super().embed(texts)


@pytest.fixture
def embedder() -> Counting:
    return Counting()


@pytest.fixture
async def indexed(redis_url: str, embedder: Counting):
    client = connect(redis_url)
    yield MemoryStore(client, count_words, policies=CompactionPolicies([IndexerPolicy(embedder)]))
    await client.aclose()


async def test_it_finds_what_is_near_and_embeds_each_step_once(
    indexed: MemoryStore, tenant: str, embedder: Counting
):
    await long_session(indexed, tenant)
    query = "launch codes"
    view = await indexed.context(tenant, "s", 150, query, policy="indexer")
    assert any("ZEBRA-42" in message["content"] for message in view["messages"])
    embedder.texts.clear()
    assert await indexed.context(tenant, "s", 150, query, policy="indexer") == view
    assert embedder.texts == [query]


async def test_a_call_that_is_answered_is_embedded_again(
    indexed: MemoryStore, tenant: str, embedder: Counting
):
    await long_session(indexed, tenant)
    await indexed.append(tenant, "s", [called("c"), result("c", "one")])
    await indexed.context(tenant, "s", 150, "x", policy="indexer")
    embedder.texts.clear()
    await indexed.append(tenant, "s", [called("d"), result("d", "two")])
    await indexed.context(tenant, "s", 150, "x", policy="indexer")
    assert len(embedder.texts) == 2  # the query and the new exchange


async def test_without_the_model_another_policy_decides_and_says_so(
    indexed: MemoryStore, tenant: str, embedder: Counting
):
    await long_session(indexed, tenant)
    embedder.broken = True
    made = await indexed.compaction.compact(tenant, "s", "indexer", 150, query="launch code")
    assert (made.plan.policy, made.plan.fell_back) == ("bm25", "the model is away")
    assert 9 in {shown.seq for shown in made.plan.shown}


async def test_a_vector_goes_with_its_step(indexed: MemoryStore, tenant: str, redis_url: str):
    await long_session(indexed, tenant)
    await indexed.context(tenant, "s", 150, "x", policy="indexer")
    with redis.Redis.from_url(redis_url, decode_responses=True) as raw:
        (key,) = raw.scan_iter(match=f"*{tenant}*:vectors")
        assert raw.hexists(key, "9")
        await indexed.forget(tenant, "s", ["9"])
        assert not raw.hexists(key, "9")
        await indexed.forget(tenant, "s")
        assert not raw.exists(key)


def test_heads_are_the_query_and_its_clauses():
    assert heads("where is it") == ["where is it"]
    assert heads("where is it, and why?") == ["where is it, and why?", "where is it", "and why"]


VECTORS = arrays.arrays(np.float32, (30, 8), elements=st.floats(-1, 1, width=16))


@given(keys=VECTORS)
def test_scores_are_never_negative_and_the_order_of_steps_does_not_matter(keys: np.ndarray):
    queries, weights = keys[:2], np.array([1.0, 0.5], np.float32)
    scores = score(queries, weights, keys)
    assert (scores >= 0).all()
    assert np.isfinite(scores).all()
    turned = score(queries, weights, keys[::-1])[::-1]
    np.testing.assert_allclose(scores, turned, atol=1e-3)
