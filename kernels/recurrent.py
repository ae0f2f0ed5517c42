"""Steps of models whose layers keep a running state instead of keys: Qwen3-Next's linear attention.

A state has no pages: it cannot be shared, cut or taken back. So each row has a cache of
transformers' own, its pieces run one after the other through the model, and the engine neither
shares prefixes nor proposes tokens. Correct, and slow with many rows. Left out: batching rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from burnish.kernels.forward_batch import ForwardBatch
from transformers import DynamicCache

KEEPS_A_STATE = "linear_attention"
# What else layers may be called; others keep what neither these caches nor our pages hold.
KNOWN = {"full_attention", "sliding_attention", "dense", "sparse", KEEPS_A_STATE}


class RowStates:
    """What every row of the engine has read so far."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._caches: dict[int, DynamicCache] = {}

    def of(self, row: int, start: int) -> DynamicCache:
        """The row's cache, which has read `start` tokens; a new one for a new sequence."""
        if start == 0:
            self._caches[row] = DynamicCache(config=self._config)
        return self._caches[row]


def step(
    model: Any, feed: ForwardBatch, states: RowStates, use: Callable[[int], None]
) -> torch.Tensor:
    """Logits [K, V] of the kept tokens. `use` sets the adapter slot of the next forward."""
    found, first = [], 0
    for row, start, count, slot in zip(
        feed.rows.tolist(), feed.starts.tolist(), feed.counts.tolist(), feed.slots.tolist(),
        strict=True,
    ):  # fmt: skip
        kept = feed.keep[(feed.keep >= first) & (feed.keep < first + count)] - first
        use(slot)
        logits = model(
            input_ids=torch.from_numpy(feed.tokens[first : first + count])[None].to(model.device),
            past_key_values=states.of(row, start),
            use_cache=True,
            logits_to_keep=torch.from_numpy(kept).to(model.device),
        ).logits[0]
        found.append(logits)
        first += count
    return torch.cat(found)


def keeps_state(config: Any) -> bool:
    """Whether a model of this config has layers with a running state."""
    return KEEPS_A_STATE in (getattr(config, "layer_types", None) or ())


def unknown_layers(config: Any) -> list[str]:
    """Kinds of layers whose memory nobody here holds."""
    return sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN)
