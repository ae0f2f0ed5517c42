"""The embedder that needs no model: what it finds similar, and that it is deterministic."""

import subprocess
import sys

import numpy as np
import pytest
from burnish.memory.search.embedding import HashingEmbedder
from burnish.memory.search.terms import words
from hypothesis import given
from hypothesis import strategies as st


def similarity(a: str, b: str) -> float:
    one = HashingEmbedder()
    return float(one.vector(a) @ one.vector(b))


@given(st.text(max_size=200))
def test_a_vector_has_length_one_or_zero(text: str):
    length = np.linalg.norm(HashingEmbedder(64).vector(text))
    assert length == pytest.approx(1 if words(text) else 0, abs=1e-5)


async def test_a_batch_is_its_texts_one_by_one():
    one = HashingEmbedder()
    batch = await one.embed(["a cat", "", "über 42"])
    assert batch.shape == (3, 384)
    assert batch.dtype == np.float32
    for row, text in zip(batch, ["a cat", "", "über 42"], strict=True):
        np.testing.assert_array_equal(row, one.vector(text))
    assert (await one.embed([])).shape == (0, 384)


def test_other_forms_of_a_word_are_nearer_than_other_words():
    assert similarity("postgres migration", "migrating Postgres") > 0.3
    assert similarity("the configuration", "a misspelt confguration") > 0.3
    assert similarity("東京都に住んでいる", "東京都") > 0.2
    assert similarity("postgres migration", "holiday in Lisbon") < 0.15


def test_another_process_gives_the_same_vector():
    code = (
        "from burnish.memory.search.embedding import HashingEmbedder as E;"
        "print(E(8).vector('the same everywhere').tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(HashingEmbedder(8).vector("the same everywhere").tolist())
