"""Texts as vectors: the base's own states, read between the steps of running answers."""

import asyncio

import numpy as np
import pytest
from burnish.kernels.model import LoadedModel
from burnish.serving.engine import EngineStopped, LocalEngine
from burnish.serving.engine.pooling import AT_ONCE, MOST, WINDOW, batches

from tests.serving.engine.conftest import Ask


async def test_a_vector_is_the_mean_of_the_states_half_way_up(
    running: LocalEngine, loaded: LoadedModel
):
    tokens = [[5, 6, 7, 8], [9, 10]]
    vectors = await running.embed(tokens)
    layers = max(1, loaded.config.num_hidden_layers // 2)
    for row, states in zip(vectors, loaded.states(tokens, layers), strict=True):
        mean = states.mean(0).numpy()
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-3)


async def test_answers_go_on_while_texts_are_read(running: LocalEngine, ask: Ask):
    async def answer() -> list[int]:
        return [t async for d in running.generate(ask(1, max_tokens=32)) for t in d.token_ids]

    alone = await answer()
    texts = [[3 + n % 200] * 100 for n in range(40)]
    beside, vectors = await asyncio.gather(answer(), running.embed(texts))
    assert beside == alone
    assert vectors.shape == (40, running.model.config.hidden_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


async def test_a_text_of_no_tokens_is_zeros(running: LocalEngine):
    assert not (await running.embed([[]])).any()


async def test_a_stopping_engine_reads_no_more(engine: LocalEngine):
    await engine.start()
    await engine.stop()
    with pytest.raises(EngineStopped):
        await engine.embed([[1, 2]])


def test_long_texts_are_read_in_windows_and_very_long_ones_from_both_ends():
    texts = [[1] * 700, [2] * 10, list(range(5000))]
    found = list(batches(texts))
    assert all(sum(len(window) for _, window in batch) <= AT_ONCE for batch in found)
    windows = [(place, window) for batch in found for place, window in batch]
    assert all(len(window) <= WINDOW for _, window in windows)
    read = [token for place, window in windows if place == 2 for token in window]
    assert read == [*range(MOST // 2), *range(5000 - MOST // 2, 5000)]
    assert sum(len(window) for place, window in windows if place == 0) == 700
