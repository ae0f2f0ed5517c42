"""The learned scorer: a small network over a task's short list, and the actions its logits mean.

Each unit is scored beside a pooled summary of all of them (Deep Sets, arXiv 1703.06114), which
gives three logits: drop, shorten, keep. `choose` turns logits into actions within the budget. Plain
numpy; training (learner/compactor) writes the same weights from torch. Left out: the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from burnish.memory.compaction.features import (
    FEATURE_NAMES,
    N_FEATURES,
    SHORT_LIST,
    Features,
    first_look,
    followed,
    next_look,
)
from burnish.memory.compaction.policies.base import NUMBER, CompactionTask, fits_in_order
from burnish.memory.errors import StoreError
from burnish.memory.sessions.plan import Action
from safetensors import SafetensorError, safe_open

POLICY = "compactor"  # its name in the registry, where later versions are put
CHOICES = (Action.DROP, Action.SHORTEN, Action.KEEP)
DROP, SHORTEN, KEEP = range(3)
FUSION = 10  # ranks: the larger, the less the first of either ranking count
LINKS = 4.0  # weight of their ranking
LINKED = 512  # candidates of it: in a long log nearly all are led to somehow
TAIL = 0.1  # of the tokens the scorer leaves: for the newest
LOOKS = 2  # relevance spreads anew from what the last look scored high
SHIPPED = Path(str(files("burnish.memory.compaction") / "compactor.safetensors"))


class ScorerError(StoreError, ValueError):
    """A checkpoint that does not fit this scorer."""


@dataclass(frozen=True)
class Scorer:
    """Weights by name: mean, std [N_FEATURES]; in, set, out: weight [out, in] and bias [out]."""

    weights: Mapping[str, np.ndarray]
    version: str = "shipped"

    @classmethod
    def load(cls, path: Path = SHIPPED, version: str = "shipped") -> Scorer:
        """Raises ScorerError for a file that is no such checkpoint, or made for other features."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ScorerError(f"{path} is not a readable safetensors file: {error}") from error
        if metadata.get("features") != fingerprint():
            raise ScorerError(
                f"{path} was trained for other features: train again with burnish train-compactor"
            )
        return cls({name: w.astype(np.float32) for name, w in weights.items()}, version)

    def look(self, task: CompactionTask, most: int = SHORT_LIST) -> list[Features]:
        """Every look at the task, at `most` candidates; the last one is what is decided on."""
        looks = [first_look(task, most)]
        while len(looks) < LOOKS and len(looks[-1].chosen):
            scores = keep_probability(self.logits(looks[-1].rows))
            looks.append(next_look(task, looks[-1], scores, most))
        return looks

    @property
    def parameters(self) -> int:
        return sum(w.size for w in self.weights.values())

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """[n, N_FEATURES] float32 -> [n, 3]: drop, shorten, keep."""
        if rows.ndim != 2 or rows.shape[1] != N_FEATURES:
            raise ScorerError(f"rows must be [n, {N_FEATURES}], not {list(rows.shape)}")
        if not len(rows):
            return np.zeros((0, 3), np.float32)
        w = self.weights
        hidden = _relu(((rows - w["mean"]) / w["std"]) @ w["in.weight"].T + w["in.bias"])
        summary = np.concatenate([hidden.mean(0), hidden.max(0)])
        own, beside = np.split(w["set.weight"], [hidden.shape[1]], axis=1)
        hidden = _relu(hidden @ own.T + (beside @ summary + w["set.bias"]))
        return hidden @ w["out.weight"].T + w["out.bias"]


def fingerprint() -> str:
    """Names what a checkpoint's inputs mean; other features need other weights."""
    return ",".join(FEATURE_NAMES)


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def keep_probability(logits: np.ndarray) -> np.ndarray:
    """[n] in 0..1: one minus the probability of drop; the order in which units are given tokens."""
    return 1.0 - np.exp(log_probabilities(logits)[:, DROP])


def pick_within_budget(
    task: CompactionTask, features: Features, wanted: np.ndarray, order_by: np.ndarray
) -> tuple[dict[int, Action], int]:
    """Actions for what is wanted and fits, by candidate, and the tokens left.

    `wanted` [n] indexes CHOICES. What does not fit whole is shortened if that fits.
    """
    log, left = task.log, task.budget
    costs = {DROP: None, SHORTEN: log.short, KEEP: log.tokens}
    actions: dict[int, Action] = {}
    for row in np.argsort(-order_by, kind="stable"):
        place = int(features.chosen[row])
        for choice in (int(wanted[row]), SHORTEN):
            price = costs[int(wanted[row]) and choice]
            if price is not None and price[place] <= left:
                actions[place] = CHOICES[choice]
                left -= int(price[place])
                break
    return actions, left


def choose(
    task: CompactionTask, features: Features, logits: np.ndarray, order_by: np.ndarray | None = None
) -> np.ndarray:
    """[candidates] actions as they are numbered. What the scorer wants comes first; the tokens left
    go to what it, BM25 and links rank high together, so that a log unlike any trained on is shown no
    worse than BM25 shows it, and a last part to the newest, in case the next prompt is about these."""
    log = task.log
    score = keep_probability(logits) if order_by is None else order_by
    picked, left = pick_within_budget(task, features, logits.argmax(1), score)
    actions = np.full(len(log), NUMBER[Action.DROP], np.int8)
    for place, action in picked.items():
        actions[place] = NUMBER[action]
    for order, share in ((_fused(features, score), 1 - TAIL), (np.arange(len(log))[::-1], 1.0)):
        # Newly shown, or whole instead of short.
        had = np.where(actions == NUMBER[Action.SHORTEN], log.short, 0)
        order = order[actions[order] != NUMBER[Action.KEEP]]
        more = log.tokens - had
        kept = fits_in_order(order, more, int(left * share))
        actions[kept] = NUMBER[Action.KEEP]
        left -= int(more[kept].sum())
    return actions


def _fused(features: Features, score: np.ndarray) -> np.ndarray:
    """Candidates that scorer, BM25 or links rank at all, best first by all of them (reciprocal ranks,
    Cormack et al. 2009)."""
    bm25 = features.match.bm25
    scores = np.zeros(len(bm25))
    scores[features.chosen] = score
    fused = np.zeros(len(bm25))
    links = _best_first(followed(features, score))[:LINKED]
    for order, weight in ((_best_first(scores), 1.0), (_best_first(bm25), 1.0), (links, LINKS)):
        fused[order] += weight / (FUSION + np.arange(len(order)))
    return _best_first(fused)


def _best_first(values: np.ndarray) -> np.ndarray:
    """Places of what is above 0, the largest first, of equal ones the newest."""
    places = np.flatnonzero(values > 0)
    return places[np.lexsort((-places, -values[places]))]


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0)
