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
    Features,
    PassageIndex,
    first_look,
    next_look,
)
from burnish.memory.compaction.policies.base import CompactionTask
from burnish.memory.errors import StoreError
from burnish.memory.sessions.plan import Action
from safetensors import SafetensorError, safe_open

POLICY = "compactor"  # its name in the registry, where later versions are put
CHOICES = (Action.DROP, Action.SHORTEN, Action.KEEP)
DROP, SHORTEN, KEEP = range(3)
LOOKS = 3  # relevance spreads anew from what the last look scored high
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

    def look(self, task: CompactionTask, log: PassageIndex | None = None) -> list[Features]:
        """Every look at the task; the last one is what is decided on."""
        looks = [first_look(task, log)]
        while len(looks) < LOOKS and len(looks[-1].chosen):
            scores = keep_probability(self.logits(looks[-1].rows))
            looks.append(next_look(task, looks[-1], scores))
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
        beside = np.concatenate([hidden, np.tile(summary, (len(rows), 1))], axis=1)
        hidden = _relu(beside @ w["set.weight"].T + w["set.bias"])
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
    actions: dict[int, Action] = {}
    left = task.budget
    for row in np.argsort(-order_by, kind="stable"):
        if wanted[row] == DROP:
            continue
        place = int(features.chosen[row])
        for action in (CHOICES[wanted[row]], Action.SHORTEN):
            cost = task.candidates[place].cost(action)
            if cost <= left:
                actions[place] = action
                left -= cost
                break
    return actions, left


def choose(
    task: CompactionTask, features: Features, logits: np.ndarray, order_by: np.ndarray | None = None
) -> list[Action]:
    """One action per candidate. What the scorer wants comes first; half of the tokens left go to
    what it nearly wanted, the rest to the newest, in case the next prompt is about these."""
    score = keep_probability(logits) if order_by is None else order_by
    actions, left = pick_within_budget(task, features, logits.argmax(1), score)
    nearly = np.where(logits[:, KEEP] >= logits[:, SHORTEN], KEEP, SHORTEN)
    ranked = [int(features.chosen[r]) for r in np.argsort(-score, kind="stable")]
    form = dict(zip(features.chosen.tolist(), nearly, strict=True))
    spare = left // 2
    for place in ranked:
        if place not in actions:
            cost = task.candidates[place].cost(CHOICES[form[place]])
            if cost <= spare:
                actions[place] = CHOICES[form[place]]
                spare, left = spare - cost, left - cost
    for place in range(len(task.candidates) - 1, -1, -1):
        # Newly shown, or whole instead of short.
        candidate, action = task.candidates[place], actions.get(place, Action.DROP)
        more = candidate.tokens - candidate.cost(action)
        if action != Action.KEEP and more <= left:
            actions[place] = Action.KEEP
            left -= more
    return [actions.get(place, Action.DROP) for place in range(len(task.candidates))]


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0.0)
