"""Bursts: where one rater judges faster than people read. What an admin has released is none."""

import math
from collections.abc import Iterable

from burnish.feedback.trust.policy import TrustPolicy
from burnish.feedback.trust.votes import Vote, by_rater


def quarantined(votes: Iterable[Vote], policy: TrustPolicy) -> set[int]:
    """The indices of votes that fall to a burst: over `burst_votes` of a rater within `burst_s`."""
    held: set[int] = set()
    for rater, own in by_rater(votes).items():
        released = policy.released.get(rater, -math.inf)
        bursts = [burst for burst in _bursts(own, policy) if burst[1] > released]
        answers = {
            vote.judgement.answer
            for vote in own
            if any(first <= vote.judgement.time <= last for first, last in bursts)
        }
        held.update(
            vote.index
            for vote in own
            if vote.judgement.answer in answers
            or any(
                first - policy.window_s <= vote.judgement.time <= last + policy.window_s
                for first, last in bursts
            )
        )
    return held


def _bursts(own: Iterable[Vote], policy: TrustPolicy) -> list[tuple[float, float]]:
    """When one rater's bursts began and ended. A session's judgement is one of many answers."""
    times = sorted({vote.judgement.event_id: vote.judgement.time for vote in own}.values())
    found: list[tuple[float, float]] = []
    first = 0
    for last, time in enumerate(times):
        while time - times[first] > policy.burst_s:
            first += 1
        if last - first + 1 > policy.burst_votes:
            began = times[first]
            if found and began <= found[-1][1]:
                began = found.pop()[0]
            found.append((began, time))
    return found
