"""The population: simulated users with hidden preferences, and how they judge answers.

Most users prefer the same style per task family; some (user, family) pairs deviate. An honest user
judges a share of the answers and sometimes hits the wrong button; a malicious one judges every
answer, either inverted or down several times. Since preferences are known, the probability of a
thumbs-up is known without noise: the *expected* rate that the reports compare.

Left out: comments, corrections and implicit signals. A correction would show the learner the
preferred style directly; learning from thumbs alone is the harder case.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Behaviour = Literal["honest", "inverter", "spammer"]
SPAM_REPEATS = 3


@dataclass(frozen=True)
class Approval:
    """Probability of an honest thumbs-up before noise, by correctness and preferred style."""

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
    preferred_styles: Mapping[str, str]  # family -> style
    behaviour: Behaviour = "honest"


@dataclass(frozen=True)
class Population:
    users: tuple[User, ...]
    preferred: Mapping[str, str]  # family -> the style that most users prefer
    flip: float
    judged: float
    approval: Approval = field(default_factory=Approval)

    @property
    def honest(self) -> tuple[User, ...]:
        return tuple(user for user in self.users if user.behaviour == "honest")

    def expected_by(self, user: User, family: str, right: bool, style: str | None) -> float:
        return self.approval(right, style == user.preferred_styles[family])

    def expected(self, family: str, right: bool, style: str | None) -> float:
        """Expected thumbs-up rate over the honest users; `style` None is preferred by no user."""
        share = sum(user.preferred_styles[family] == style for user in self.honest) / len(
            self.honest
        )
        liked, other = self.approval(right, True), self.approval(right, False)
        return share * liked + (1 - share) * other

    def oracle_expected(self, family: str, right: bool) -> float:
        """Expected thumbs-up rate of an answer in the family's preferred style."""
        return self.expected(family, right, self.preferred[family])

    def votes(self, user: User, approval: float, rng: random.Random) -> tuple[bool, ...]:
        """The thumbs that this user sends, in order, at this probability of a thumbs-up."""
        if user.behaviour == "inverter":
            return (rng.random() >= approval,)
        if user.behaviour == "spammer":
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
    """Draw a population: a function of its arguments alone."""
    rng = random.Random(f"population:{seed}")
    preferred = {family: rng.choice(styles) for family in families}
    num_malicious = min(round(malicious * users), users - 1)
    members = []
    for number in range(users):
        preferred_styles = {
            family: rng.choice([s for s in styles if s != style])
            if rng.random() < deviate
            else style
            for family, style in preferred.items()
        }
        behaviour: Behaviour = "honest"
        if number < num_malicious:
            behaviour = "inverter" if number % 2 == 0 else "spammer"
        members.append(
            User(
                id=f"sim-{seed}-{number:03d}",
                preferred_styles=preferred_styles,
                behaviour=behaviour,
            )
        )
    return Population(users=tuple(members), preferred=preferred, flip=flip, judged=judged)
