"""`learned`: a small trained network decides what to keep whole, shorten or drop.

It reads the features of `memory/compaction/features.py` and fills what it does not need with what it nearly
wanted and with the newest steps. In a share `explore` of the decisions what it wants is drawn from its
probabilities instead of taking the likeliest, and these carry a `Trace`: what a later update needs
to learn from the reward that an answer earned (learner/compactor/online.py). The arithmetic runs in
a thread, since a long log takes a while. Left out: training.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from burnish.memory.compaction.features import WIDTH
from burnish.memory.compaction.policies.base import Decision, Task
from burnish.memory.compaction.scorer import CHOICES, DROP, Scorer, choose, log_probabilities, worth
from burnish.memory.sessions.plan import Verdict

_WHY = {
    Verdict.KEEP: "wanted whole",
    Verdict.SHORTEN: "wanted in short",
    Verdict.DROP: "not wanted",
}


@dataclass(frozen=True)
class Trace:
    """How the decisions of one plan came about, without a word of what was decided on.

    `logp` is under the version that drew, for importance weights; `kept` the share of the
    candidates' tokens that the draw asked for.
    """

    version: str
    kept: float
    rows: np.ndarray  # float16 [n, WIDTH]
    actions: np.ndarray  # uint8 [n], indexes CHOICES
    logp: np.ndarray  # float16 [n], of each action

    def pack(self) -> str:
        """A line of JSON and a line of base64."""
        parts = (self.rows.astype("<f2"), self.logp.astype("<f2"), self.actions.astype(np.uint8))
        head = {"version": self.version, "kept": self.kept, "n": len(self.actions)}
        body = zlib.compress(b"".join(part.tobytes() for part in parts), 6)
        return f"{json.dumps(head)}\n{base64.b64encode(body).decode()}"

    @classmethod
    def unpack(cls, packed: str) -> Trace:
        """Raises ValueError for what was made with other features."""
        head, _, body = packed.partition("\n")
        facts = json.loads(head)
        raw, n = zlib.decompress(base64.b64decode(body)), int(facts["n"])
        if len(raw) != n * (2 * WIDTH + 3):
            raise ValueError(f"a trace of {n} units should hold {WIDTH} features of each")
        return cls(
            facts["version"],
            facts["kept"],
            rows=np.frombuffer(raw, "<f2", n * WIDTH).reshape(n, WIDTH),
            logp=np.frombuffer(raw, "<f2", n, 2 * n * WIDTH),
            actions=np.frombuffer(raw, np.uint8, n, 2 * n * (WIDTH + 1)),
        )


class Traced(list[Decision]):
    """Decisions that remember how they were drawn."""

    def __init__(self, decisions: Iterable[Decision], trace: Trace) -> None:
        super().__init__(decisions)
        self.trace = trace


class Learned:
    """`scorer` may be replaced while serving; a decision uses the one it began with."""

    name = "learned"

    def __init__(
        self, scorer: Scorer | None = None, *, explore: float = 0.0, seed: int | None = None
    ) -> None:
        self.scorer = scorer or Scorer.load()
        self.explore = explore
        self._rng = np.random.default_rng(seed)

    async def decide(self, task: Task) -> Sequence[Decision]:
        if not task.candidates:
            return []
        return await asyncio.to_thread(self.decided, task)

    def decided(self, task: Task) -> list[Decision]:
        """The same, in this thread."""
        scorer = self.scorer
        features = scorer.look(task)[-1]
        if self._rng.random() >= self.explore:
            logits = scorer.logits(features.rows)
            return _decisions(choose(task, features, logits), worth(logits), features.chosen)
        # Drawn from the very numbers the trace will hold.
        rows = features.rows.astype(np.float16).astype(np.float32)
        logits = scorer.logits(rows)
        logp = log_probabilities(logits)
        actions = (logp + self._rng.gumbel(size=logp.shape)).argmax(1)
        drawn = np.where(np.arange(3) == actions[:, None], 30.0, -30.0) + 0.01 * logits
        tokens = [
            task.candidates[place].cost(CHOICES[action])
            for place, action in zip(features.chosen, actions, strict=True)
            if action != DROP
        ]
        trace = Trace(
            version=scorer.version,
            kept=min(1.0, sum(tokens) / max(sum(c.tokens for c in task.candidates), 1)),
            rows=rows.astype(np.float16),
            actions=actions.astype(np.uint8),
            logp=logp[np.arange(len(actions)), actions].astype(np.float16),
        )
        verdicts = choose(task, features, drawn.astype(np.float32), order_by=worth(logits))
        return Traced(_decisions(verdicts, worth(logits), features.chosen), trace)


def _decisions(
    verdicts: Sequence[Verdict], score: np.ndarray, chosen: np.ndarray
) -> list[Decision]:
    by_place = dict(zip(chosen.tolist(), score.tolist(), strict=True))
    decisions = []
    for place, verdict in enumerate(verdicts):
        wanted = by_place.get(place)
        if wanted is None:
            decisions.append(Decision(verdict, 0.0, "far from the query"))
        else:
            room = "there was room" if wanted < 0.5 and verdict != Verdict.DROP else _WHY[verdict]
            decisions.append(Decision(verdict, wanted, f"scorer {wanted:.2f}, {room}"))
    return decisions
