"""Verifiable tasks for rehearsal and gate: packs of one's own, the built-in ones, and ember's families.

    task.py         a task and its errors          checks.py, fields.py   what is right, as JSON
    pack.py         the protocol; generated ones   jsonl.py               packs from files
    sources.py      the packs of BURNISH_TASKS as one source
    general/        for any instruction model      ember/                 for the shipped one
    reasoning_gym.py    that library's, with the extra
    time_limit.py  for other people's checkers and generators

Plain Python: neither torch nor a tokenizer is imported here.
"""

from burnish.learner.tasks.pack import GeneratorPack, TaskPack
from burnish.learner.tasks.sources import TaskSource, open_source
from burnish.learner.tasks.task import CheckFailed, PackError, Task, TaskError

__all__ = [
    "CheckFailed",
    "GeneratorPack",
    "PackError",
    "Task",
    "TaskError",
    "TaskPack",
    "TaskSource",
    "open_source",
]
