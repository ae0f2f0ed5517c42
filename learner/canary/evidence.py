"""What a canary's users have shown: the challenger's arm against the control arm, one user against one.

The unit is the end user. Of each the first thumb counts, the first signal, and the length and time of the first answer,
all while in the canary: what somebody adds says little that is new, and would have to be weighed by what they said
before. The nth user of one arm is compared with the nth of the other, so that both come from the same hours. Arms are of
one size at every step of the ramp and nobody changes from one to the other, so the two are alike if the versions are.

`alpha` is divided among the tests (SHARES), so that all of them together are wrong as rarely as it says.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from burnish.learner.canary import failures
from burnish.learner.canary.betting import DeadlineTest, MixtureTest
from burnish.learner.canary.settings import CanarySettings
from burnish.learner.gate.sequential import Bounds, Guess

ArmName = Literal["challenger", "champion"]
Metric = Literal["thumbs", "signal", "seconds", "tokens"]
METRICS: tuple[Metric, ...] = ("thumbs", "signal", "seconds", "tokens")
Harm = Literal["thumbs", "signal", "failures", "slower", "longer", "shorter"]

SHARES: Mapping[str, float] = MappingProxyType(
    {
        "better": 0.75,
        "thumbs": 0.08,
        "failures": 0.06,
        "signal": 0.04,
        "slower": 0.03,
        "longer": 0.02,
        "shorter": 0.02,
    }
)
CLIP = 4.0  # times: answers that are longer by more than this count as by this much


@dataclass(frozen=True)
class Observation:
    """What one end user of one arm was seen to do or to get. `value`: 1 for a thumb up or a good signal, 0 for others;
    seconds; tokens."""

    metric: Metric
    arm: ArmName
    value: float


@dataclass
class _Pairs:
    """Users of one metric, in the order they came, until one of the other arm comes."""

    challenger: deque[float] = field(default_factory=deque)
    champion: deque[float] = field(default_factory=deque)
    users: dict[ArmName, int] = field(default_factory=lambda: {"challenger": 0, "champion": 0})
    sums: dict[ArmName, float] = field(default_factory=lambda: {"challenger": 0.0, "champion": 0.0})

    def add(self, arm: ArmName, value: float) -> tuple[float, float] | None:
        """The pair that this user completes: the challenger's value and the champion's."""
        waiting = self.challenger if arm == "challenger" else self.champion
        waiting.append(value)
        self.users[arm] += 1
        self.sums[arm] += value
        if self.challenger and self.champion:
            return self.challenger.popleft(), self.champion.popleft()
        return None

    def mean(self, arm: ArmName) -> float | None:
        return self.sums[arm] / self.users[arm] if self.users[arm] else None


class Evidence:
    """All tests of one canary; observations are added as they come."""

    def __init__(self, settings: CanarySettings) -> None:
        alphas = {name: settings.alpha * share for name, share in SHARES.items()}
        least, most = settings.tokens
        self.better = DeadlineTest(alphas["better"], settings.users)
        self._failure_alpha = alphas["failures"]
        self._worse: dict[Harm, MixtureTest] = {
            "thumbs": MixtureTest(alphas["thumbs"]),
            "signal": MixtureTest(alphas["signal"], settings.signals),
            "slower": MixtureTest(alphas["slower"], _log(settings.seconds)),
            "longer": MixtureTest(alphas["longer"], _log(most)),
            "shorter": MixtureTest(alphas["shorter"], -_log(least)),
        }
        self._pairs: dict[Metric, _Pairs] = {metric: _Pairs() for metric in METRICS}
        self._bounds = Bounds(settings.alpha)
        self._differences, self._squares = 0.0, 0.0
        self.failed: dict[ArmName, int] = {"challenger": 0, "champion": 0}
        self._failed_surely = False

    def add(self, seen: Observation) -> None:
        pair = self._pairs[seen.metric].add(seen.arm, seen.value)
        if pair is None:
            return
        ours, theirs = pair
        match seen.metric:
            case "thumbs":
                self._add_thumbs(ours - theirs)
            case "signal":
                self._worse["signal"].add(theirs - ours)
            case "seconds":
                self._worse["slower"].add(_ratio(ours, theirs))
            case "tokens":
                self._worse["longer"].add(_ratio(ours, theirs))
                self._worse["shorter"].add(-_ratio(ours, theirs))

    def count_failures(self, challenger: int, champion: int) -> None:
        """How many users of each arm had a request fail, so far."""
        self.failed = {"challenger": challenger, "champion": champion}
        won = failures.capital(challenger, champion) * self._failure_alpha >= 1
        self._failed_surely = self._failed_surely or won

    @property
    def worse(self) -> list[Harm]:
        """In what the challenger is surely worse than is allowed."""
        failed: list[Harm] = ["failures"] if self._failed_surely else []
        return [*failed, *(name for name, test in self._worse.items() if test.won)]

    @property
    def voters(self) -> int:
        """Pairs of users who gave a thumb."""
        return self._worse["thumbs"].seen

    @property
    def lower(self) -> float:
        """The least that the challenger's thumbs rate may have changed by, at `alpha`, whenever one looks."""
        return self._bounds.lower

    @property
    def upper(self) -> float:
        return self._bounds.upper

    def users(self, metric: Metric, arm: ArmName) -> int:
        return self._pairs[metric].users[arm]

    def mean(self, metric: Metric, arm: ArmName) -> float | None:
        return self._pairs[metric].mean(arm)

    def _add_thumbs(self, difference: float) -> None:
        self._bounds.add([difference], self._guess())
        self.better.add(difference)
        self._worse["thumbs"].add(-difference)
        self._differences += difference
        self._squares += difference**2

    def _guess(self) -> Guess:
        """Of the next difference, as if two dozen without any change had come first."""
        count = self.voters + 24
        mean = self._differences / count
        return Guess(mean, (self._squares + 12) / count - mean**2)


def _log(times: float) -> float:
    return math.log(times) / math.log(CLIP)


def _ratio(ours: float, theirs: float) -> float:
    """How many times as much, as a logarithm in [-1, 1], within CLIP."""
    return max(-1.0, min(1.0, _log(max(ours, 1e-3) / max(theirs, 1e-3))))
