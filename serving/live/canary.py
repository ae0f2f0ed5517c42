"""Canary arms: which end users a policy's challenger answers, and whom it is compared with.

A user's place follows from a salted hash, as in most systems for online experiments (Kohavi, Tang and Xu, "Trustworthy
Online Controlled Experiments", 2020): every replica gives the same arm without asking anybody, also after a restart,
and each canary draws its users anew. The challenger has the places below its share; its control arm, whom the champion
answers, those as far from the other end. So both are as large at every share, whoever is in at a small one stays in as
it grows, and nobody changes from one to the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

HASHES = 2**64

ArmName = Literal["champion", "challenger"]
AnsweredBy = Literal["champion", "challenger", "base"]


@dataclass(frozen=True)
class Assignment:
    """Where a canary has an end user. `subject` tells the users of one canary apart and names nobody."""

    arm: ArmName
    challenger: int  # its version
    subject: str


def place(salt: str, user: str) -> float:
    """Where a user stands in [0, 1), evenly spread over users and salts."""
    return int.from_bytes(_digest(salt, user)[:8]) / HASHES


def arm_of(salt: str, user: str, share: float) -> ArmName | None:
    """The arm of a user at a share in [0, 0.5]; None for those whom the canary leaves alone."""
    stands = place(salt, user)
    if stands < share:
        return "challenger"
    return "champion" if 1 - stands <= share else None


def assign(salt: str, user: str | None, share: float, challenger: int) -> Assignment | None:
    """Requests that name neither a user nor a session are left alone: they could not stay on an arm."""
    if user is None:
        return None
    arm = arm_of(salt, user, share)
    return None if arm is None else Assignment(arm, challenger, subject_of(salt, user))


def subject_of(salt: str, user: str) -> str:
    return _digest(salt, user)[8:24].hex()


def _digest(salt: str, user: str) -> bytes:
    return hashlib.sha256(f"{salt}\n{user}".encode()).digest()
