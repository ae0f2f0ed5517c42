"""The people: hidden preferences, and what they do with an answer.

Most users like one style per task family, a few pairs of user and family deviate.
An honest user judges a share of the answers and sometimes hits the wrong button; a
malicious one judges every answer, either inverted or always down and several times.
Because the preferences are known here, the chance of a thumbs-up can be stated
without any noise: that is the *expected* rate the reports compare.

Left out on purpose: comments, corrections and implicit signals. A correction would
hand the learner the liked style outright; a thumb is the hard case.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Temper = Literal["honest", "inverter", "spammer"]
SPAM_REPEATS = 3


@dataclass(frozen=True)
class Approval:
    """The chance of an honest, steady-handed thumbs-up."""

    right_liked: float = 0.90
    right_other: float = 0.50
    wrong_liked: float = 0.20
    wrong_other: float = 0.05

    def __call__(self, right: bool, liked: bool) -> float:
        if right:
            return self.right_liked if liked else self.right_other
        return self.wrong_liked if liked else self.wrong_other


@dataclass(frozen=True)
class User:
    id: str
    likes: Mapping[str, str]  # family -> style
    temper: Temper = "honest"


@dataclass(frozen=True)
class Population:
    users: tuple[User, ...]
    preferred: Mapping[str, str]  # family -> the style most people like
    flip: float
    judged: float
    approval: Approval = field(default_factory=Approval)

    @property
    def honest(self) -> tuple[User, ...]:
        return tuple(user for user in self.users if user.temper == "honest")

    def expected_by(self, user: User, family: str, right: bool, style: str | None) -> float:
        return self.approval(right, style == user.likes[family])

    def expected(self, family: str, right: bool, style: str | None) -> float:
        """The expected thumbs-up over all honest users; an answer in no known style is liked
        by nobody for its style."""
        fans = sum(user.likes[family] == style for user in self.honest) / len(self.honest)
        liked, other = self.approval(right, True), self.approval(right, False)
        return fans * liked + (1 - fans) * other

    def best(self, family: str, right: bool) -> float:
        """What an answer in the family's preferred style is worth: the oracle's share."""
        return self.expected(family, right, self.preferred[family])

    def votes(self, user: User, approval: float, rng: random.Random) -> tuple[bool, ...]:
        """The thumbs this user sends for an answer approved of with that chance, in order."""
        if user.temper == "inverter":
            return (rng.random() >= approval,)
        if user.temper == "spammer":
            return (False,) * SPAM_REPEATS
        if rng.random() >= self.judged:
            return ()
        return ((rng.random() < approval) != (rng.random() < self.flip),)


def draw_population(
    *,
    families: Sequence[str],
    styles: Sequence[str],
    users: int = 50,
    deviate: float = 0.1,
    malicious: float = 0.04,
    flip: float = 0.2,
    judged: float = 0.3,
    seed: int = 0,
) -> Population:
    """Draw a population. The same arguments give the same people, whatever happens later."""
    rng = random.Random(f"population:{seed}")
    preferred = {family: rng.choice(styles) for family in families}
    bad = min(round(malicious * users), users - 1)
    people = []
    for number in range(users):
        likes = {
            family: rng.choice([s for s in styles if s != style])
            if rng.random() < deviate
            else style
            for family, style in preferred.items()
        }
        temper: Temper = "honest"
        if number < bad:
            temper = "inverter" if number % 2 == 0 else "spammer"
        people.append(User(id=f"sim-{seed}-{number:03d}", likes=likes, temper=temper))
    return Population(users=tuple(people), preferred=preferred, flip=flip, judged=judged)
