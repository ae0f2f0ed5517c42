"""The gate's suite: held-out tasks as endless streams of questions, the same ones for ever for one base.

A family that is generated has a new task for every number; one that is a list is gone through again with
other seeds.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from random import Random

from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import Answer, Question
from burnish.learner.tasks import CheckFailed, Task, TaskSource
from burnish.learner.training.prompts import fitting


class Stream:
    """Questions of one kind by number, under a name of their own."""

    def __init__(self, name: str, tasks: Iterable[Task]) -> None:
        self.name = name
        self._coming = iter(tasks)
        self._tasks: list[Task] = []
        self._ended = False

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self._fetched(0)

    def question(self, number: int) -> Question:
        """Raises IndexError where the stream is empty."""
        self._fetched(number)
        if not self._tasks:
            raise IndexError(f"{self.name} has no task")
        task = self._tasks[number % len(self._tasks)]
        return Question(task, seed=zlib.crc32(f"{self.name}/{number}".encode()) >> 1)

    def first(self, count: int) -> list[Question]:
        """At most `count` questions, each task once."""
        self._fetched(count - 1)
        return [self.question(number) for number in range(min(count, len(self._tasks)))]

    def _fetched(self, number: int) -> bool:
        while not self._ended and len(self._tasks) <= number:
            task = next(self._coming, None)
            self._ended = task is None
            if task is not None:
                self._tasks.append(task)
        return len(self._tasks) > number


class Suite:
    """Held-out tasks by family. `per_family` of each make up the first look at every candidate; on twice as
    many questions a probe is tried at the base."""

    def __init__(
        self, model: LoadedModel, source: TaskSource, per_family: int, max_tokens: int
    ) -> None:
        self.model, self.source, self.max_tokens = model, source, max_tokens
        self.per_family, self.probed = per_family, 2 * per_family
        self.streams: dict[str, Stream] = {}
        for family in source.families:
            drawn = source.draw(Random(f"{model.sha256}/{family}"), family, "heldout")
            if stream := Stream(family, fitting(model, source, drawn, max_tokens)):
                self.streams[family] = stream
        self.first: Mapping[str, Sequence[Question]] = {
            family: stream.first(per_family) for family, stream in self.streams.items()
        }
        identity = json.dumps([[q.key for of in self.first.values() for q in of], max_tokens])
        self.digest = hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def questions(self) -> list[Question]:
        """The first look, family by family."""
        return [question for of in self.first.values() for question in of]

    def verdict(self, question: Question, answer: Answer) -> bool | None:
        """Whether an answer is right; None where the task's checker fails, which is noted."""
        try:
            return question.task.is_correct(answer.text)
        except CheckFailed as error:
            self.source.note(str(error))
            return None
