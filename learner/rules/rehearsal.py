"""Rehearsal: verifiable tasks beside the judgements, so that what people like costs no skill.

It is a constraint, not a second goal. Each family has a multiplier that grows while the policy solves
less of it than the base does, and shrinks while it solves more (dual ascent); only families with one are
trained on, so rehearsal never pulls against people's taste where no skill is at stake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.tasks.pack import Pool
from burnish.learner.training.prompts import fitting, task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler

SLACK = 0.02  # of skill, that a family may lose before it is rehearsed
DUAL_RATE = 0.15  # of the multipliers, per group and unit of skill lost
LEAST, MOST = 0.2, 0.5  # share of a step's groups that are tasks
PROBE = 0.1  # weight at which a family without multiplier is asked, to see that it is kept
BASE_TASKS = (8, 32)  # of each family and level that the base answers once: at least, at most
BASE_TOKENS = 1 << 16  # that these answers may come to, if all are as long as they may be


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
        self.base: dict[str, float] = dict((state or {}).get("base", {}))
        self.multipliers: dict[str, float] = dict((state or {}).get("multipliers", {}))

    def state_dict(self) -> dict[str, Any]:
        """What the base solves, and the multipliers, by `family/level`, as JSON."""
        return {
            "base": self.base,
            "multipliers": {key: round(value, 4) for key, value in self.multipliers.items()},
        }

    @property
    def burden(self) -> float:
        """The mean multiplier of all families, in [0, 1]."""
        return sum(self.multipliers.values()) / max(1, len(self.source.pools))

    def measure_base(self, policy: PolicySampler, max_tokens: int, seed: int) -> None:
        """See what the base solves of each family and level that is new here; of fewer tasks each where
        answers are long, or a slow model would take longer to be measured than to be trained."""
        rng = Random(f"{seed}/base")
        new = [pool for pool in self.source.pools if _key(*pool) not in self.base]
        least, most = BASE_TASKS
        each = max(least, min(most, BASE_TOKENS // (max_tokens * max(1, len(new)))))
        tasks = [
            task
            for pool in new
            for task in _fitting(self.source, rng, pool, each, policy.model, max_tokens)
        ]
        if not tasks:
            return
        answers = policy.sample(
            [task_prompt(policy.model, task) for task in tasks],
            samples=1,
            max_tokens=max_tokens,
            seed=rng.getrandbits(31),
            base=True,
        )
        right: dict[str, list[bool]] = defaultdict(list)
        for task, (answer,) in zip(tasks, answers, strict=True):
            verdict = self._verdict(task, answer)
            if verdict is not None:
                right[_key(task.family, task.level)].append(verdict)
        self.base |= {key: round(sum(v) / len(v), 4) for key, v in right.items()}

    def draw(self, rng: Random, groups: int, model: LoadedModel, max_tokens: int) -> list[Task]:
        """The training tasks of a step of so many groups: a fifth of them to see that skills are kept,
        up to a half where they are not; families and levels weighted by their multipliers.

        Those whose prompt leaves less than `max_tokens` for an answer are drawn again.
        """
        pools = [pool for pool in self.source.pools if self.base.get(_key(*pool), 1.0) > 0]
        weights = [PROBE + self.multipliers.get(_key(*pool), 0.0) for pool in pools]
        count = max(1, round(groups * (LEAST + (MOST - LEAST) * min(1.0, 4 * self.burden))))
        return draw_tasks(self.source, rng, pools, weights, count, model, max_tokens)

    def grade(
        self, tasks: Sequence[Task], groups: Sequence[Sequence[Rollout]]
    ) -> tuple[list[MixedGroup], float]:
        """The groups that have right and wrong rollouts and a multiplier, and the share right of all.
        Moves the multipliers. A group whose checker fails is dropped."""
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
                r for r, verdict in zip(group, right, strict=True) if not verdict and r.token_ids
            ]
            if good and bad and self.multiplier(task) > 0:
                mixed.append(MixedGroup(good, bad, self.multiplier(task)))
        return mixed, sum(map(bool, verdicts)) / len(verdicts) if verdicts else 0.0

    def multiplier(self, task: Task) -> float:
        return self.multipliers.get(_key(task.family, task.level), 0.0)

    def _account(self, task: Task, rate: float) -> None:
        key = _key(task.family, task.level)
        lost = self.base.get(key, 0.0) - SLACK - rate
        self.multipliers[key] = min(1.0, max(0.0, self.multiplier(task) + DUAL_RATE * lost))

    def _verdict(self, task: Task, rollout: Rollout) -> bool | None:
        try:
            return task.is_correct(rollout.text)
        except CheckFailed as error:
            self.source.note(str(error))
            return None


def draw_tasks(
    source: TaskSource,
    rng: Random,
    pools: Sequence[Pool],
    weights: Sequence[float],
    count: int,
    model: LoadedModel,
    max_tokens: int,
) -> list[Task]:
    """At most `count` training tasks of these pools, which are drawn by weight; fewer where tasks do not
    fit the model."""
    left = dict(zip(pools, weights, strict=True))
    drawn: list[Task] = []
    while left and len(drawn) < count:
        pool = rng.choices(list(left), list(left.values()))[0]
        found = _fitting(source, rng, pool, 1, model, max_tokens)
        drawn += found
        if not found:
            del left[pool]
    return drawn


def _fitting(
    source: TaskSource, rng: Random, pool: Pool, count: int, model: LoadedModel, max_tokens: int
) -> list[Task]:
    family, level = pool
    tasks = source.draw(rng, family, "train", level)
    return list(islice(fitting(model, source, tasks, max_tokens), count))


def _key(family: str, level: int) -> str:
    return f"{family}/{level}"
