"""Search over records: two rankings that rescue each other, filters, and an index that keeps
up with every writer."""

import asyncio
import random
from collections.abc import Sequence

import numpy as np
import pytest
from burnish.memory import MemoryStore, connect
from burnish.memory.records.record import RecordFilter
from burnish.memory.records.records import Records
from burnish.memory.search.bm25 import Postings
from burnish.memory.search.embedding import HashingEmbedder
from burnish.memory.search.fusion import fuse
from burnish.memory.search.terms import query_terms, terms
from burnish.memory.sessions.keys import TenantKeys
from hypothesis import given
from hypothesis import strategies as st

NOTES = {
    "tea": "Ana drinks green tea in the morning",
    "deploy": "deployments to production happen on Tuesdays",
    "key": "the order number of the spare part is XK-4471",
    "cat": "her cat is called Miso",
}


class Blind:
    """An embedder to which all texts are the same: what it finds is no news."""

    name = "blind"

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 4), np.float32) / 2


async def fill(records: Records, tenant: str) -> None:
    for name, text in NOTES.items():
        await records.put(tenant, {"id": name, "text": text, "user": "ana"})


async def first(records: Records, tenant: str, query: str, **options) -> str | None:
    found = await records.search(tenant, query, **options)
    return found[0]["id"] if found else None


async def test_the_embedding_finds_what_words_miss(store: MemoryStore, tenant: str):
    await fill(store.records, tenant)
    assert await first(store.records, tenant, "deploying") == "deploy"
    assert await first(store.records, tenant, "the teas of mornings") == "tea"


async def test_words_find_what_the_embedding_misses(redis_url: str, tenant: str):
    client = connect(redis_url)
    records = Records(client, embedder=Blind(), floor=2.0)
    await fill(records, tenant)
    assert await first(records, tenant, "which part is XK-4471?") == "key"
    assert await first(records, tenant, "deploying") == "deploy"
    await client.aclose()


async def test_what_matches_nothing_finds_nothing(store: MemoryStore, tenant: str):
    await fill(store.records, tenant)
    assert await store.records.search(tenant, "quantum zebra") == []
    assert await store.records.search(tenant, "?!") == []


async def test_filters_narrow_what_is_ranked(store: MemoryStore, tenant: str):
    for n in range(60):
        await store.records.put(tenant, {"text": f"tea tea tea {n}", "user": "ben"})
    await fill(store.records, tenant)
    source = {"subject": "ana", "predicate": "drink", "session_id": "s"}
    await store.records.put(tenant, {"id": "slot", "text": "tea it is", "user": "ana", **source})
    found = await store.records.search(tenant, "tea", user="ana")
    assert {row["id"] for row in found} == {"tea", "slot"}
    for asked in (
        RecordFilter(session_id="s"),
        RecordFilter(subject="ANA"),
        RecordFilter(predicate="drink"),
    ):
        assert await first(store.records, tenant, "tea", where=asked) == "slot"
    assert await store.records.search(tenant, "tea", RecordFilter(user="nobody")) == []


async def test_a_recall_is_counted_and_a_look_is_not(store: MemoryStore, tenant: str):
    await fill(store.records, tenant)
    await store.records.search(tenant, "cat", recall=False)
    assert (await store.records.get(tenant, "cat"))["recalls"] == 0
    await store.records.search(tenant, "cat")
    seen = await store.records.get(tenant, "cat")
    assert seen["recalls"] == 1
    assert seen["recalled_at"] is not None


async def test_another_process_sees_every_change_at_once(redis_url: str, tenant: str):
    clients = [connect(redis_url), connect(redis_url)]
    here, there = (Records(client) for client in clients)
    rng = random.Random(5)
    kept: dict[str, str] = {}
    for turn in range(120):
        writer = rng.choice([here, there])
        name = f"n{rng.randrange(12)}"
        if rng.random() < 0.3 and name in kept:
            await writer.delete(tenant, name)
            del kept[name]
        else:
            kept[name] = f"word{turn} about {name}"
            await writer.put(tenant, {"id": name, "text": kept[name]})
        for reader in (here, there):
            found = await reader.search(tenant, "about", limit=20)
            assert {row["id"]: row["text"] for row in found} == kept
    await asyncio.gather(*(client.aclose() for client in clients))


async def test_an_index_that_fell_behind_starts_anew(redis_url: str, tenant: str):
    client = connect(redis_url)
    here, there = Records(client), Records(client)
    await fill(here, tenant)
    assert len(await there.search(tenant, "tea cat")) == 2
    await here.put(tenant, {"id": "dog", "text": "a dog and a cat"})
    await here.delete(tenant, "cat")
    await client.xtrim(TenantKeys(tenant).record_changes, maxlen=1, approximate=False)
    assert {row["id"] for row in await there.search(tenant, "tea cat")} == {"tea", "dog"}
    await client.aclose()


documents = st.lists(st.text("ab c", min_size=1, max_size=12), min_size=1, max_size=8)


@given(documents, st.text("abc ", max_size=6), st.data())
def test_dead_documents_leave_no_trace_in_a_score(texts: list[str], query: str, data):
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    every, only = Postings(), Postings()
    for text, lives in zip(texts, alive, strict=True):
        every.add(terms(text))
        if lives:
            only.add(terms(text))
    expected = only.scores(query_terms(query), np.ones(len(only), bool))
    np.testing.assert_allclose(every.scores(query_terms(query), alive)[alive], expected, rtol=1e-5)
    every.keep(alive)
    left = every.scores(query_terms(query), np.ones(len(every), bool))
    np.testing.assert_allclose(left, expected, rtol=1e-5)


def test_bm25_gives_the_textbook_score():
    postings = Postings()
    for text in ("red red fox", "wet fox", "sky"):
        postings.add(terms(text))
    scores = postings.scores(["red"], np.ones(3, bool))
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    assert scores[0] == pytest.approx(idf * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2)))
    assert scores[1] == scores[2] == 0


def test_fusion_adds_reciprocal_ranks():
    fused = fuse([["a", "b"], ["b", "c"]], 3)
    assert [item for item, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(1 / 62 + 1 / 61)


async def test_both_together_beat_either_alone(redis_url: str, tenant: str):
    """Exact identifiers reward BM25, inflected paraphrases the embedding; fusion has both."""
    client = connect(redis_url)
    rng = random.Random(7)
    nouns = "invoice printer garden database passport bicycle kitchen battery contract tunnel"
    verbs = "repair migrate inspect schedule archive translate calibrate renew document simplify"
    facts, queries = [], []
    for noun in nouns.split():
        for verb in verbs.split():
            code = f"{rng.choice('QWXZ')}{rng.randrange(10_000, 99_999)}"
            facts.append(f"the {noun} team plans to {verb} it, see {code}")
            queries.append((code, f"{noun}s {verb.rstrip('e')}ing"))
    both, words = Records(client), Records(client, embedder=Blind(), floor=2.0)
    vectors = await HashingEmbedder().embed(facts)
    ids = [(await both.put(tenant, {"text": fact}))["id"] for fact in facts]
    hits = {"both": 0, "words": 0, "vectors": 0}
    for place, pair in enumerate(queries):
        for query in pair:
            found = await both.search(tenant, query, limit=1, recall=False)
            hits["both"] += [row["id"] for row in found] == [ids[place]]
            found = await words.search(tenant, query, limit=1, recall=False)
            hits["words"] += [row["id"] for row in found] == [ids[place]]
            near = vectors @ (await HashingEmbedder().embed([query]))[0]
            hits["vectors"] += int(near.argmax()) == place
    assert hits["both"] >= max(hits["words"], hits["vectors"]), hits
    assert hits["both"] >= 190, hits
    await client.aclose()
