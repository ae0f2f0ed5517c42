"""Task packs: what a source of tasks is, and the one whose tasks are generated.

A generator is a function `(rng, level) -> Task`, or `-> Mapping` with the fields of a line of a JSONL
pack (jsonl.py), where `check` may be a function of the answer too. A distribution offers one, several
(a mapping by family name) or a whole pack under a name in the entry-point group `burnish.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Protocol

from burnish.learner.tasks.fields import task_of
from burnish.learner.tasks.task import PackError, Split, Task
from burnish.learner.tasks.time_limit import time_limit

Generator = Callable[[Random, int], Task | Mapping[str, Any]]
Pool = tuple[str, int]  # family, level

LEVEL_SHARES = (0.65, 0.25, 0.1)  # of levels 1 to 3 where none is asked for
PATIENCE = 500  # tasks of the other split in a row, after which a generator has none of this one


class TaskPack(Protocol):
    """A source of tasks. `calibrated`: families that the base never or always solves are left out."""

    name: str
    calibrated: bool

    @property
    def pools(self) -> Sequence[Pool]:
        """Every family with each of its levels."""
        ...

    def draw(
        self, rng: Random, family: str, split: Split, level: int | None = None
    ) -> Iterator[Task]:
        """Tasks of one family in random order; ends where there are no more. Raises PackError."""
        ...


class GeneratorPack:
    """Families that are generated, each by a function of a random generator and a level."""

    def __init__(
        self,
        name: str,
        generators: Mapping[str, Generator],
        *,
        level_shares: Sequence[float] = LEVEL_SHARES,
        calibrated: bool = False,
    ) -> None:
        self.name, self.calibrated = name, calibrated
        self._generators = generators
        self._levels = range(1, len(level_shares) + 1)
        self._level_shares = level_shares

    @property
    def pools(self) -> Sequence[Pool]:
        return [(family, level) for family in self._generators for level in self._levels]

    def draw(
        self, rng: Random, family: str, split: Split, level: int | None = None
    ) -> Iterator[Task]:
        misses = 0
        while misses < PATIENCE:
            chosen = level or rng.choices(self._levels, self._level_shares)[0]
            task = self._make(rng, family, chosen)
            if task.split == split:
                misses = 0
                yield task
            else:
                misses += 1

    def _make(self, rng: Random, family: str, level: int) -> Task:
        try:
            with time_limit():
                made = self._generators[family](rng, level)
        except PackError as error:
            raise PackError(f"{self.name}: {error}") from error
        except Exception as error:
            # A generator is other people's code: what it raises is told, and costs its family.
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise PackError(f"{self.name}: the generator of {family} raised {why}") from error
        if isinstance(made, Task):
            return replace(made, family=family, level=level)
        if isinstance(made, Mapping):
            return task_of({**made, "family": family, "level": level}, self.name)
        raise PackError(f"{self.name}: the generator of {family} returned no task but {made!r:.80}")
