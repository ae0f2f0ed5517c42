"""What the engine benchmark measures of a contestant: decode, prefill, latencies, fresh answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from burnish.ops.bench.lib.speed.loads import CONCURRENT, FRESH, LONG, SHORT, Load
from burnish.ops.bench.lib.speed.peers import Peer, Timing

WARM_TOKENS = 4
PERCENTILES = (50, 95, 99)


def repeated(timed: Callable[[], Timing], rounds: int, seconds: float) -> list[Timing]:
    """At least `rounds` rounds, and as many as begin within so many seconds."""
    began, done = time.perf_counter(), [timed()]
    while len(done) < rounds or time.perf_counter() - began < seconds:
        done.append(timed())
    return done


class Measuring:
    """How long, and on which vocabulary. Never the same prompts twice, or prefix caching would inflate
    our figures of reading them."""

    def __init__(self, vocab: int, rounds: int, seconds: float) -> None:
        self._vocab, self._rounds, self._seconds = vocab, rounds, seconds
        self._rng = np.random.default_rng(0)

    def _prompts(self, rows: int, length: int) -> np.ndarray:
        return self._rng.integers(3, self._vocab, (rows, length))

    def _repeat(self, peer: Peer, rows: int, length: int, new: int) -> list[Timing]:
        return repeated(lambda: peer(self._prompts(rows, length), new), self._rounds, self._seconds)

    def decode(self, peer: Peer, load: Load) -> dict[str, Any]:
        """Tokens a second at each concurrency, the best of the rounds, and latencies of all of them."""
        found = {}
        for rows in CONCURRENT:
            peer(self._prompts(rows, WARM_TOKENS), WARM_TOKENS)
            done = self._repeat(peer, rows, load.prompt, load.new)
            if done[0].prefill is None:
                # The peer does not tell when it had read the prompts.
                first = min(t.seconds for t in self._repeat(peer, rows, load.prompt, 1))
                rest = (min(t.seconds for t in done) - first) / (rows * (load.new - 1))
            else:
                first = min(t.prefill for t in done if t.prefill is not None)
                rest = min(t.decoding / t.decoded for t in done)
            found[str(rows)] = {
                "decode": round(1 / rest, 1),
                "prefill": round(rows * load.prompt / first, 1),
                **latencies(done),
            }
        return found

    def prompts(self, peer: Peer, long: bool) -> dict[str, float]:
        """Tokens a second of reading one prompt, by its length."""
        found = {}
        for length in (SHORT, LONG) if long else (SHORT,):
            done = self._repeat(peer, 1, length, 1)
            found[str(length)] = round(length / min(t.prefill or t.seconds for t in done), 1)
        return found

    def fresh(self, peer: Peer) -> dict[str, float]:
        """New tokens a second at the learner's load, prefill included."""
        peer(self._prompts(2, WARM_TOKENS), WARM_TOKENS)

        def timed() -> Timing:
            asked = self._prompts(FRESH.prompts, FRESH.prompt).repeat(FRESH.samples, axis=0)
            return peer(asked, FRESH.new)

        done = repeated(timed, self._rounds, self._seconds)
        return {"fresh": round(FRESH.rows * FRESH.new / min(t.seconds for t in done), 1)}


def latencies(done: Sequence[Timing]) -> dict[str, Any]:
    """Percentiles, in milliseconds, of the time to a stream's first token and between what arrived
    then, which may be the tokens of several steps."""
    seen = {
        "first_token_ms": [first for timing in done for first in timing.firsts],
        "gap_ms": [gap for timing in done for gap in timing.gaps],
    }
    return {
        name: {
            f"p{p}": round(float(value), 2)
            for p, value in zip(PERCENTILES, np.percentile(values, PERCENTILES) * 1e3, strict=True)
        }
        for name, values in seen.items()
        if values
    }
