"""Task packs from JSONL: one task a line, its fields as fields.py has them.

A line that cannot be used is told with its number and field, and the others are. Of a family's tasks
every fourth is held out for the gate, at least one where there are two, by the rank of a hash: a line
more moves hardly any other. `split` in a line decides for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from burnish.learner.tasks.fields import task_of
from burnish.learner.tasks.pack import Pool
from burnish.learner.tasks.task import PackError, Split, Task, rank

HELDOUT_OF = 4  # tasks, one


@dataclass(frozen=True)
class Problem:
    """What is wrong with a line; as text `FILE line N: FIELD: WHY`."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file} line {self.line}: {self.why}"


@dataclass(frozen=True)
class _Line:
    number: int
    task: Task
    split: Split | None


class JsonlPack:
    """The tasks of one file. Raises PackError if it cannot be read."""

    calibrated = False  # whoever wrote them wants them

    def __init__(self, path: Path) -> None:
        self.name, self.path = path.stem, path
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PackError(f"{path} cannot be read: {error}") from error
        self.problems: list[Problem] = []
        self._tasks = self._splits(list(self._read(lines)))

    @property
    def tasks(self) -> Sequence[Task]:
        return [task for _, task in self._tasks]

    @property
    def pools(self) -> Sequence[Pool]:
        return list(dict.fromkeys((task.family, task.level) for _, task in self._tasks))

    def draw(
        self, rng: Random, family: str, split: Split, level: int | None = None
    ) -> Iterator[Task]:
        found = [
            task
            for of, task in self._tasks
            if of == split and task.family == family and level in (None, task.level)
        ]
        yield from rng.sample(found, len(found))

    def _read(self, lines: Sequence[str]) -> Iterator[_Line]:
        seen: dict[str, int] = {}
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            try:
                line = self._line(number, text)
                if earlier := seen.get(line.task.key):
                    raise PackError(f"messages: the same as in line {earlier}")
            except PackError as error:
                self.problems.append(Problem(self.path.name, number, str(error)))
                continue
            seen[line.task.key] = number
            yield line

    def _line(self, number: int, text: str) -> _Line:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PackError(f"no JSON: {error}") from error
        if not isinstance(fields, dict):
            raise PackError("no JSON object")
        task = task_of(fields, self.name, self.path.parent)
        return _Line(number, task, fields.get("split"))

    def _splits(self, lines: Sequence[_Line]) -> list[tuple[Split, Task]]:
        """Each task with its split, in the order of the lines."""
        held: set[int] = set()
        for family in {line.task.family for line in lines}:
            free = [line for line in lines if line.task.family == family and not line.split]
            free.sort(key=lambda line: rank(line.task.key))
            wanted = max(len(free) // HELDOUT_OF, 1 if len(free) > 1 else 0)
            held |= {line.number for line in free[:wanted]}
        return [
            (line.split or ("heldout" if line.number in held else "train"), line.task)
            for line in lines
        ]
