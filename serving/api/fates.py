"""What became of one judgement, in plain words: saved, joined, weighed, learnt from, judged at the gate, tried in a
canary, served; or why it is not, and what it waits for.

Pure: the route gathers what the spool, the learner (feedback/fates.py) and the registry know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.feedback.events import FeedbackEvent
from burnish.feedback.fates import KEPT_SECONDS, Fate

LESS = {
    "burst": "it was given faster than people read, so it counts nothing",
    "reliability": "this person's votes agree little with what other people's votes let expect",
    "cap": "one person, API key or tenant counts only so much",
    "correction": "a correction says that an answer was nearly right",
    "preference": "it says which of two answers is better, not how good one is",
    "signal": "what somebody did in passing says less than a vote",
    "comment": "a comment says what was wrong, and counts by itself neither for nor against",
}
SKIPPED = {
    "tokenizer": "the answer is of a model with other tokens, from before the base was changed",
    "long": "prompt or answer is longer than what an update learns from",
    "old": "the answer is of a version too long ago, or there are newer ones enough",
}
ENDED = {
    "retracted": "it was taken back",
    "superseded": "a later judgement by the same person replaced it",
}


@dataclass(frozen=True, kw_only=True)
class Known:
    """What there is to tell by. `state` of the judgement on this server; `served` when each version first
    became champion; `tried_at` when the canary of the version that learnt from it began; `idle`: why the last update
    of the policy trained nothing."""

    state: str
    fate: Fate
    problem: str | None = None
    away: bool = False
    served: dict[int, float]
    challenger: int | None = None
    tried_at: float | None = None
    idle: str | None = None


def told(event: FeedbackEvent, known: Known, now: float) -> dict[str, Any]:
    """`steps` so far, oldest first, each with its time where that is known; `skipped`: why it counts nothing;
    `waits`: what has to happen next. The last two are None where there is nothing of the kind."""
    fate = known.fate
    steps = [{"step": "saved", "at": event.time.timestamp()}, *_steps(known)]
    skipped = ENDED.get(known.state) or known.problem
    if fate.weight is None or fate.skipped:
        skipped = skipped or SKIPPED.get(fate.skipped or "", fate.skipped)
    elif fate.weight == 0:
        skipped = skipped or LESS.get(fate.less or "", "it counts nothing")
    waits = None if skipped else _waits(known, now - event.time.timestamp())
    return {"policy": fate.policy, "steps": steps, "skipped": skipped or None, "waits": waits}


def _steps(known: Known) -> Sequence[dict[str, Any]]:
    fate, steps = known.fate, list[dict[str, Any]]()
    if fate.joined_at is not None or fate.weighed_at is not None:
        steps.append({"step": "joined", "at": fate.joined_at})
    if fate.weight is not None:
        why = LESS.get(fate.less or "") if fate.weight < 1 else None
        steps.append({"step": "weighed", "at": fate.weighed_at, "weight": fate.weight, "why": why})
    if fate.version is not None:
        ref = {"update": fate.update, "version": fate.version}
        steps.append({"step": "used", "at": fate.used_at, **ref})
        steps.append({"step": "gate", "at": fate.used_at, **ref, "passed": fate.passed})
        if known.tried_at is not None:
            running = fate.version == known.challenger and fate.version not in known.served
            steps.append({"step": "canary", "at": known.tried_at, **ref, "running": running})
        if fate.version in known.served:
            steps.append({"step": "served", "at": known.served[fate.version], **ref})
    return steps


def _waits(known: Known, age: float) -> str | None:
    fate = known.fate
    if fate.version is not None:
        ref = f"{fate.policy}@{fate.version}"
        if fate.version in known.served:
            return None
        if fate.version == known.challenger:
            return f"{ref} is tried on a share of people; it serves all once that shows no harm"
        if known.tried_at is not None:
            return f"{ref} was tried and did not take over; the judgement counts again with the next update"
        if fate.passed:
            return f"{ref} passed the gate, and waits to be promoted"
        return f"the gate refused {ref}; the judgement counts again with the next update"
    if known.away:
        return "the learner cannot be asked at the moment; nothing is lost"
    if fate.joined_at is None and fate.weighed_at is None:
        if age > KEPT_SECONDS:
            return "nothing more is known: stories are kept for a month"
        return "the learner takes it in as soon as it has met its answer, mostly within seconds"
    return known.idle or "the next update"
