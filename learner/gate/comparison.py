"""Non-inferiority: a candidate has to show that it is not worse than each reference by a margin.

The burden of proof is the candidate's: it passes when the lower confidence bounds of its paired changes have
cleared the margins, for all skills together and for each family, against the champion and against the base;
it fails as soon as an upper bound lies below its margin; what is undecided at the cap has not passed. Tasks
are asked in rounds, and only of families that are still open, so a good candidate is cheap and a doubtful
one gets more tasks. Every bound must clear, so no correction for many tests is due (Berger 1982): a
candidate that is too bad anywhere passes with a chance of at most alpha.

Left out: where the scores come from (trial.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from burnish.learner.gate.pooling import Seen, pooled, whole
from burnish.learner.gate.sequential import STEP, Bounds

Verdict = Literal["kept", "lost", "undecided"]


@dataclass(frozen=True)
class Line:
    """One thing that must not get worse by more than `margin`: a family of tasks, a suite's questions.
    `counts`: it is part of the skill as a whole."""

    name: str
    margin: float
    counts: bool = True


@dataclass(frozen=True)
class Effort:
    """How tasks are spent: `first` of each line to begin with; then of each open line a round has `least`,
    and all together about `together`; no line has more than `most`, except that those that count, where they are few, may come to `in_all`
    times as many together for the sake of the whole. `alpha`: the error of each bound."""

    first: int = 12
    least: int = 4
    together: int = 64
    most: int = 600
    in_all: int = 10
    alpha: float = 0.05

    def most_of(self, line: Line, lines: Sequence[Line]) -> int:
        counted = sum(line.counts for line in lines)
        return max(self.most, self.in_all * self.most // counted) if line.counts else self.most


Ask = Callable[[Sequence[tuple[str, int]]], Sequence[Sequence[float | None]]]
"""From (line, number of the task) to scores in [0, 1]: the candidate's, then each reference's; None where
there is no verdict."""


@dataclass
class Paired:
    """A line, or the whole, beside one reference: its changes so far and their bounds."""

    margin: float
    bounds: Bounds
    seen: Seen = field(default_factory=Seen)

    @property
    def verdict(self) -> Verdict:
        if self.bounds.lower >= -self.margin - STEP / 2:
            return "kept"
        return "lost" if self.bounds.upper < -self.margin - STEP / 2 else "undecided"


@dataclass
class Rates:
    """How many tasks of a line were scored, and the mean score of each policy, the candidate first."""

    count: int = 0
    totals: tuple[float, ...] = ()

    def add(self, scores: Sequence[float]) -> None:
        self.count += 1
        self.totals = tuple(
            a + b for a, b in zip(self.totals or (0.0,) * len(scores), scores, strict=True)
        )

    @property
    def means(self) -> tuple[float, ...]:
        return tuple(total / self.count for total in self.totals) if self.count else ()


@dataclass
class Comparison:
    """What a candidate has shown so far, by reference."""

    lines: Sequence[Line]
    whole: Mapping[str, Paired]
    by_line: Mapping[str, Mapping[str, Paired]]  # reference, line
    rates: Mapping[str, Rates]  # line

    @property
    def lost(self) -> bool:
        return any(paired.verdict == "lost" for paired in self._every)

    @property
    def kept(self) -> bool:
        return all(paired.verdict == "kept" for paired in self._every)

    @property
    def _every(self) -> list[Paired]:
        return [*self.whole.values(), *(p for of in self.by_line.values() for p in of.values())]

    def open(self, line: Line) -> bool:
        """Whether more tasks of this line could decide something."""
        waiting = [of[line.name] for of in self.by_line.values()]
        if line.counts:
            waiting += self.whole.values()
        return any(paired.verdict == "undecided" for paired in waiting)


def compare(
    lines: Sequence[Line],
    references: Sequence[str],
    skill_margin: float,
    ask: Ask,
    effort: Effort | None = None,
) -> Comparison:
    """Ask until everything is decided, something is lost, or the cap is reached."""
    effort = effort or Effort()
    found = Comparison(
        lines,
        {of: Paired(skill_margin, Bounds(effort.alpha)) for of in references}
        if any(line.counts for line in lines)
        else {},
        {
            of: {line.name: Paired(line.margin, Bounds(effort.alpha)) for line in lines}
            for of in references
        },
        {line.name: Rates() for line in lines},
    )
    asked = dict.fromkeys((line.name for line in lines), 0)
    most = {line.name: effort.most_of(line, lines) for line in lines}
    still, each = list(lines), effort.first
    while still:
        number = {line.name: min(each, most[line.name] - asked[line.name]) for line in still}
        tasks = [(name, asked[name] + i) for name, count in number.items() for i in range(count)]
        scores = ask(tasks)
        _account(found, tasks, scores, references)
        for name, count in number.items():
            asked[name] += count
        if found.lost:
            break
        still = [line for line in lines if found.open(line) and asked[line.name] < most[line.name]]
        each = max(effort.least, math.ceil(effort.together / max(1, len(still))))
    return found


def _account(
    found: Comparison,
    tasks: Sequence[tuple[str, int]],
    scores: Sequence[Sequence[float | None]],
    references: Sequence[str],
) -> None:
    """Take up a round: guesses from what was seen before it, then what it showed."""
    scored: dict[str, list[tuple[float, ...]]] = {}
    for (name, _), given in zip(tasks, scores, strict=True):
        known = tuple(score for score in given if score is not None)
        if len(known) == len(given):
            scored.setdefault(name, []).append(known)
            found.rates[name].add(known)
    counted = [line.name for line in found.lines if line.counts]
    for place, of in enumerate(references, 1):
        pairs = found.by_line[of]
        changes = {name: [s[0] - s[place] for s in all_] for name, all_ in scored.items()}
        guesses = dict(zip(pairs, pooled([paired.seen for paired in pairs.values()]), strict=True))
        # While the whole is open every family that counts has the same share of each round.
        if of in found.whole and found.whole[of].verdict == "undecided":
            total = [change for name in counted for change in changes.get(name, [])]
            guess = whole([pairs[name].seen for name in counted])
            found.whole[of].bounds.add(total, guess)
            found.whole[of].seen = found.whole[of].seen.plus(total)
        for name, of_line in changes.items():
            pairs[name].bounds.add(of_line, guesses[name])
            pairs[name].seen = pairs[name].seen.plus(of_line)
