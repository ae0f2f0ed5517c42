"""Rehearsal: verifiable tasks beside the judgements, so that what people like costs no skill.

It is a constraint, not a second goal. Each family has a multiplier that grows while the policy solves
less of it than the base does, and shrinks while it solves more (dual ascent); only families with one are
trained on, so rehearsal never pulls against people's taste where no skill is at stake. What the base solves
is known from the gate, and better by its answers to the first tasks that steps draw. Groups of four are noisy, so
multipliers hover above zero where nothing is lost: measured in units of what preference counts instead, policies
followed early votes faster and came less far.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.training.prompts import fitting
from burnish.learner.training.rollouts import Rollout

SLACK = 0.02  # of skill, that a family may lose before it is rehearsed
DUAL_RATE = 0.15  # of the multipliers, per group and unit of skill lost
LEAST, MOST = 0.2, 0.5  # share of a step's groups that are tasks
PROBE = 0.1  # weight at which a family without multiplier is asked, to see that it is kept
BASE_ANSWERS = 32  # of each family, after which the base is asked no more
FEW = 8  # answers of the base; by fewer a family is neither held to it nor given up


class Solved(NamedTuple):
    """Right answers of the base, of how many."""

    right: int
    asked: int

    @property
    def rate(self) -> float:
        return self.right / self.asked

    @property
    def never(self) -> bool:
        return not self.right and self.asked >= FEW


UNKNOWN = Solved(0, 0)


@dataclass(frozen=True)
class MixedGroup:
    """Rollouts of one task that has right and wrong ones; `weight`: its family's multiplier."""

    right: list[Rollout]
    wrong: list[Rollout]
    weight: float

    def pair(self, manner: Callable[[Rollout], float]) -> list[Rollout]:
        """The right and the wrong one that are most alike in `manner`, so that they teach nothing
        about it, with advantages that sum to zero."""
        pairs = [(good, bad) for good in self.right for bad in self.wrong]
        good, bad = min(pairs, key=lambda pair: abs(manner(pair[0]) - manner(pair[1])))
        return [good.with_advantage(self.weight), bad.with_advantage(-self.weight)]


class Rehearsal:
    """Draws tasks of `source` where skill is at stake, and grades the answers to them."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.source = TaskSource()
        self.base: dict[str, Solved] = {
            family: Solved(*counts) for family, counts in (state or {}).get("solved", {}).items()
        }
        self.multipliers: dict[str, float] = dict((state or {}).get("multipliers", {}))

    def state_dict(self) -> dict[str, Any]:
        """What the base solves, and the multipliers, by family, as JSON."""
        return {
            "solved": {family: list(counts) for family, counts in self.base.items()},
            "multipliers": {family: round(value, 4) for family, value in self.multipliers.items()},
        }

    @property
    def burden(self) -> float:
        """The mean multiplier of all families, in [0, 1]."""
        families = self.source.families
        return sum(self.multipliers.get(f, 0.0) for f in families) / max(1, len(families))

    def begin(self, source: TaskSource, solved: Mapping[str, tuple[int, int]]) -> None:
        """Draw from this source; `solved`: what the base got right of its families elsewhere, where nothing
        is known yet."""
        self.source = source
        self.base = {family: Solved(*counts) for family, counts in solved.items()} | self.base

    def unsure(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that the base is to answer too, since little is known of what it solves of their families."""
        return [task for task in tasks if self._solved(task).asked < BASE_ANSWERS]

    def note_base(self, tasks: Sequence[Task], groups: Sequence[Sequence[Rollout]]) -> None:
        """Count what the base got right."""
        for task, group in zip(tasks, groups, strict=True):
            right = [v for rollout in group if (v := self._verdict(task, rollout)) is not None]
            known = self._solved(task)
            self.base[task.family] = Solved(known.right + sum(right), known.asked + len(right))

    def draw(self, rng: Random, groups: int, model: LoadedModel, max_tokens: int) -> list[Task]:
        """The training tasks of a step of so many groups: a fifth of them to see that skills are kept,
        up to a half where they are not; families weighted by their multipliers.

        Those whose prompt leaves less than `max_tokens` for an answer are drawn again.
        """
        families = [f for f in self.source.families if not self.base.get(f, UNKNOWN).never]
        weights = [PROBE + self.multipliers.get(family, 0.0) for family in families]
        pools = [(family, None) for family in families]
        count = max(1, round(groups * (LEAST + (MOST - LEAST) * min(1.0, 4 * self.burden))))
        return draw_tasks(self.source, rng, pools, weights, count, model, max_tokens)

    def grade(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[MixedGroup], float]:
        """The groups that have right and wrong rollouts and a multiplier, and the share right of all (NaN of none).
        Moves the multipliers. A group whose checker fails is dropped, and nothing is held against an answer that
        was cut, though it is not right either (as DAPO masks them, Yu et al. 2025)."""
        mixed: list[MixedGroup] = []
        verdicts: list[bool | None] = []
        for task, group in zip(tasks, groups, strict=True):
            right = [self._verdict(task, rollout) for rollout in group]
            if None in right:
                continue
            verdicts += right
            self._account(task, sum(map(bool, right)) / len(right))
            good = [r for r, verdict in zip(group, right, strict=True) if verdict and r.token_ids]
            bad = [
                rollout
                for rollout, verdict in zip(group, right, strict=True)
                if not verdict and rollout.token_ids and not rollout.truncated
            ]
            if good and bad and self.multiplier(task) > 0:
                mixed.append(MixedGroup(good, bad, self.multiplier(task)))
        return mixed, sum(map(bool, verdicts)) / len(verdicts) if verdicts else math.nan

    def multiplier(self, task: Task) -> float:
        return self.multipliers.get(task.family, 0.0)

    def _solved(self, task: Task) -> Solved:
        return self.base.get(task.family, UNKNOWN)

    def _account(self, task: Task, rate: float) -> None:
        known = self._solved(task)
        if known.asked >= FEW:
            lost = known.rate - SLACK - rate
            moved = self.multiplier(task) + DUAL_RATE * lost
            self.multipliers[task.family] = min(1.0, max(0.0, moved))

    def _verdict(self, task: Task, rollout: Rollout) -> bool | None:
        try:
            return task.is_correct(rollout.text)
        except CheckFailed as error:
            self.source.note(str(error))
            return None


def draw_tasks(
    source: TaskSource,
    rng: Random,
    pools: Sequence[tuple[str, int | None]],
    weights: Sequence[float],
    count: int,
    model: LoadedModel,
    max_tokens: int,
) -> list[Task]:
    """At most `count` training tasks of these families and levels (None: as the pack mixes them), which are
    drawn by weight; fewer where tasks do not fit the model."""
    left = dict(zip(pools, weights, strict=True))
    drawn: list[Task] = []
    while left and len(drawn) < count:
        pool = rng.choices(list(left), list(left.values()))[0]
        family, level = pool
        tasks = source.draw(rng, family, "train", level)
        found = list(islice(fitting(model, source, tasks, max_tokens), 1))
        drawn += found
        if not found:
            del left[pool]
    return drawn
