"""Training batches: seeded pools of dialogues, cut into batches of similar length."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from burnish.ops.pretrain.dialogue import dialogues
from burnish.ops.pretrain.recipe import PretrainRecipe
from burnish.ops.pretrain.tokenizer import PAD, encode
from torch import Tensor
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class TokenBatch:
    tokens: Tensor  # [rows, length] int64, padded on the right
    targets: Tensor  # [rows, length] bool


def batches_of_pool(
    recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast, pool: int
) -> list[TokenBatch]:
    """Pool number `pool` of dialogues as batches of similar length, in random order."""
    rng = Random(f"{recipe.seed} {pool}")
    pad = tokenizer.convert_tokens_to_ids(PAD)
    assert isinstance(pad, int)
    encoded = [encode(tokenizer, d) for d in islice(dialogues(rng), recipe.pool)]
    encoded.sort(key=lambda pair: len(pair[0]))
    batches, rows = [], []
    for pair in encoded:
        if rows and len(pair[0]) * (len(rows) + 1) > recipe.batch_tokens:
            batches.append(_padded(rows, pad))
            rows = []
        rows.append(pair)
    batches.append(_padded(rows, pad))
    rng.shuffle(batches)
    return batches


def _padded(rows: list[tuple[list[int], list[bool]]], pad: int) -> TokenBatch:
    length = max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), length), pad)
    targets = torch.zeros((len(rows), length), dtype=torch.bool)
    for row, (ids, marks) in enumerate(rows):
        tokens[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids)] = torch.tensor(marks)
    return TokenBatch(tokens, targets)


def pools(
    recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerFast, first: int
) -> Iterator[list[TokenBatch]]:
    """The batches of one pool after the other; the next pool is prepared in the background."""
    with ThreadPoolExecutor(1) as executor:
        upcoming = executor.submit(batches_of_pool, recipe, tokenizer, first)
        while True:
            batches, first = upcoming.result(), first + 1
            upcoming = executor.submit(batches_of_pool, recipe, tokenizer, first)
            yield batches
