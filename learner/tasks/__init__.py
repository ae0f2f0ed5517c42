"""Verifiable tasks, for pretraining the shipped model, for the gate and for rehearsal.

A `Task` is a short chat with one right answer and many right wordings. `sample` draws one,
`demonstrate` answers it in a style, `is_correct` checks any answer whatever its style, and
`style_of` names the style whether or not the answer is right. The two are independent, so that
preferences for a style and the skill are measured apart.

Plain Python: neither torch nor a tokenizer is imported here.
"""

from burnish.learner.tasks.catalogue import FAMILIES, demonstrate, is_correct, sample
from burnish.learner.tasks.core import STYLES, Family, Task, TaskError
from burnish.learner.tasks.styles import style_of

__all__ = [
    "FAMILIES",
    "STYLES",
    "Family",
    "Task",
    "TaskError",
    "demonstrate",
    "is_correct",
    "sample",
    "style_of",
]
