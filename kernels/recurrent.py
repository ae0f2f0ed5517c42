"""Steps of models with linear attention, whose layers keep a recurrent state instead of keys: Qwen3-Next.

A state has no pages: it cannot be shared or rolled back. So each row has a cache of transformers'
own, the rows of a step run one after the other, and the engine neither shares prefixes nor drafts
tokens. Correct, and slow with many rows. Left out: batching rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from burnish.kernels.forward_batch import ForwardBatch

if TYPE_CHECKING:
    from transformers import DynamicCache

RECURRENT = "linear_attention"
# Layer types that these caches or our pages hold.
KNOWN = {"full_attention", "sliding_attention", "dense", "sparse", RECURRENT}


class RowStates:
    """The recurrent state of every row of the engine."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._caches: dict[int, DynamicCache] = {}

    def of(self, row: int, start: int) -> DynamicCache:
        """The row's cache after `start` tokens; a new one at the start of a sequence."""
        from transformers import DynamicCache  # see attention.py

        if start == 0:
            self._caches[row] = DynamicCache(config=self._config)
        return self._caches[row]


def step(
    model: Any, batch: ForwardBatch, states: RowStates, use: Callable[[int], None]
) -> torch.Tensor:
    """Logits [K, V] of the kept tokens. `use` sets the adapter slot of the next forward pass."""
    parts, first = [], 0
    for row, start, count, slot in zip(
        batch.rows.tolist(), batch.starts.tolist(), batch.counts.tolist(), batch.slots.tolist(),
        strict=True,
    ):  # fmt: skip
        kept = batch.keep[(batch.keep >= first) & (batch.keep < first + count)] - first
        use(slot)
        logits = model(
            input_ids=torch.from_numpy(batch.tokens[first : first + count])[None].to(model.device),
            past_key_values=states.of(row, start),
            use_cache=True,
            logits_to_keep=torch.from_numpy(kept).to(model.device),
        ).logits[0]
        parts.append(logits)
        first += count
    return torch.cat(parts)


def is_recurrent(config: Any) -> bool:
    """Whether a model of this config has layers with a recurrent state."""
    return RECURRENT in (getattr(config, "layer_types", None) or ())


def unknown_layers(config: Any) -> list[str]:
    """Layer types of a config whose state no cache here holds."""
    return sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN)
