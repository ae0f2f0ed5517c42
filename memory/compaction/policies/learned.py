"""`learned`: a small trained network decides what to keep whole, shorten or drop.

It scores the features of features.py, and spends the tokens it does not need on what it nearly wanted
and on the newest steps. In a share `explore` of the tasks it samples from its probabilities instead
of taking the likeliest actions; the decisions then carry a `DecisionTrace`, from which an update
learns by the reward of the answer (learner/compactor/online.py). The arithmetic runs in a thread,
since a long log takes a while. Left out: training.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from burnish.memory.compaction.features import N_FEATURES, Features
from burnish.memory.compaction.policies.base import (
    ACTIONS,
    CompactionTask,
    Decision,
    Decisions,
)
from burnish.memory.compaction.scorer import (
    CHOICES,
    DROP,
    Scorer,
    choose,
    keep_probability,
    log_probabilities,
)
from burnish.memory.sessions.plan import Action

_WHY = {
    Action.KEEP: "wanted whole",
    Action.SHORTEN: "wanted in short",
    Action.DROP: "not wanted",
}


@dataclass(frozen=True)
class DecisionTrace:
    """How the decisions of one plan were sampled; holds none of the log's text.

    `logp` is under the version that sampled, for importance weights; `kept` is the share of the
    candidates' tokens that the sampled actions keep.
    """

    version: str
    kept: float
    rows: np.ndarray  # float16 [n, N_FEATURES]
    actions: np.ndarray  # uint8 [n], indexes CHOICES
    logp: np.ndarray  # float16 [n], of each action

    def pack(self) -> str:
        """A line of JSON and a line of base64."""
        parts = (self.rows.astype("<f2"), self.logp.astype("<f2"), self.actions.astype(np.uint8))
        head = {"version": self.version, "kept": self.kept, "n": len(self.actions)}
        body = zlib.compress(b"".join(part.tobytes() for part in parts), 6)
        return f"{json.dumps(head)}\n{base64.b64encode(body).decode()}"

    @classmethod
    def unpack(cls, packed: str) -> DecisionTrace:
        """Raises ValueError for a trace of other features."""
        head, _, body = packed.partition("\n")
        facts = json.loads(head)
        raw, n = zlib.decompress(base64.b64decode(body)), int(facts["n"])
        if len(raw) != n * (2 * N_FEATURES + 3):
            raise ValueError(f"a trace of {n} units should hold {N_FEATURES} features of each")
        return cls(
            facts["version"],
            facts["kept"],
            rows=np.frombuffer(raw, "<f2", n * N_FEATURES).reshape(n, N_FEATURES),
            logp=np.frombuffer(raw, "<f2", n, 2 * n * N_FEATURES),
            actions=np.frombuffer(raw, np.uint8, n, 2 * n * (N_FEATURES + 1)),
        )


class LearnedPolicy:
    """`scorer` may be replaced while serving; each task uses the one it began with."""

    name = "learned"

    def __init__(
        self, scorer: Scorer | None = None, *, explore: float = 0.0, seed: int | None = None
    ) -> None:
        self.scorer = scorer or Scorer.load()
        self.explore = explore
        self._rng = np.random.default_rng(seed)

    async def decide(self, task: CompactionTask) -> Sequence[Decision]:
        return await asyncio.to_thread(self.decide_sync, task)

    def decide_sync(self, task: CompactionTask) -> Decisions:
        """`decide` in the calling thread."""
        scorer = self.scorer
        if not len(task.log):
            return Decisions(np.zeros(0, np.int8), np.zeros(0), lambda place: "")
        features = scorer.look(task)[-1]
        if self._rng.random() >= self.explore:
            logits = scorer.logits(features.rows)
            return _decisions(choose(task, features, logits), logits, features)
        # Sampled from the rounded features, which are what the trace holds.
        rows = features.rows.astype(np.float16).astype(np.float32)
        logits = scorer.logits(rows)
        logp = log_probabilities(logits)
        actions = (logp + self._rng.gumbel(size=logp.shape)).argmax(1)
        sampled = np.where(np.arange(3) == actions[:, None], 30.0, -30.0) + 0.01 * logits
        tokens = [
            task.candidates[place].cost(CHOICES[action])
            for place, action in zip(features.chosen, actions, strict=True)
            if action != DROP
        ]
        trace = DecisionTrace(
            version=scorer.version,
            kept=min(1.0, sum(tokens) / max(int(task.log.tokens.sum()), 1)),
            rows=rows.astype(np.float16),
            actions=actions.astype(np.uint8),
            logp=logp[np.arange(len(actions)), actions].astype(np.float16),
        )
        chosen = choose(
            task, features, sampled.astype(np.float32), order_by=keep_probability(logits)
        )
        return _decisions(chosen, logits, features, trace.pack())


def _decisions(
    actions: np.ndarray, logits: np.ndarray, features: Features, trace: str = ""
) -> Decisions:
    scores = np.zeros(len(actions))
    scores[features.chosen] = keep_probability(logits)
    seen = np.zeros(len(actions), bool)
    seen[features.chosen] = True

    def why(place: int) -> str:
        action = ACTIONS[actions[place]]
        room = scores[place] < 0.5 and action is not Action.DROP
        if not seen[place]:
            return "there was room" if room else "far from the query"
        return f"scorer {scores[place]:.2f}, {'there was room' if room else _WHY[action]}"

    return Decisions(actions, scores, why, trace)
