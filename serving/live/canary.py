"""Canary arms: which end users a policy's challenger answers.

A user's arm follows from a hash of the challenger's name and the user's, as in most systems for online
experiments (Kohavi, Tang and Xu, "Trustworthy Online Controlled Experiments", 2020): every replica gives the
same arm without asking anybody, also after a restart; whoever is in at a small share stays in as it grows;
and each challenger draws its users anew.
"""

from __future__ import annotations

import hashlib

HASHES = 2**64


def place(challenger: str, user: str) -> float:
    """Where a user stands in [0, 1) for a challenger, evenly spread over users and challengers."""
    digest = hashlib.sha256(f"{challenger}\n{user}".encode()).digest()
    return int.from_bytes(digest[:8]) / HASHES


def is_in(challenger: str, user: str | None, share: float) -> bool:
    """Whether the challenger answers this user. Requests that name no user stay with the champion: they
    could not stay on an arm."""
    return user is not None and place(challenger, user) < share
