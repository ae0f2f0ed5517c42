"""ember's families as a task pack. They serve only models that speak as ember was taught to."""

from __future__ import annotations

from functools import partial
from random import Random

from burnish.learner.tasks.ember.catalogue import FAMILIES, LEVEL_SHARES, is_correct
from burnish.learner.tasks.ember.core import Family
from burnish.learner.tasks.pack import GeneratorPack
from burnish.learner.tasks.task import Task


def _task(family: Family, rng: Random, level: int) -> Task:
    exercise = family.make(rng, level)
    return Task(
        family.name,
        exercise.messages,
        check=partial(is_correct, exercise),
        tools=exercise.tools,
        level=exercise.level,
    )


PACK = GeneratorPack(
    "ember",
    {name: partial(_task, family) for name, family in FAMILIES.items()},
    level_shares=LEVEL_SHARES,
)
