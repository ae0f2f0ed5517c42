"""Failed requests of a challenger against those of its control arm.

Both arms are as large, and which one a user is in is a toss of a coin (live/canary.py). So if the version does not
matter, each user of whom a request failed is the challenger's with probability one half, whatever makes requests fail
and however often one looks. The test is the likelihood ratio of the coin's odds, in equal parts for ODDS: an e-process
in the users who failed. Each counts once for each arm, however often they try again.
"""

from __future__ import annotations

ODDS = (0.7, 0.9, 1.0)  # that a user who failed is the challenger's, if it is at fault


def capital(challenger: int, control: int) -> float:
    """Of a bet that the challenger is at fault; the numbers of users of each arm of whom a request failed."""
    ratios = [(2 * odds) ** challenger * (2 * (1 - odds)) ** control for odds in ODDS]
    return sum(ratios) / len(ratios)
