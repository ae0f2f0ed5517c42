"""Verifiable tasks: what the shipped model was taught, what the gate asks, what rehearsal rewards.

A `Task` is a short chat with one right answer and many right wordings. `sample` draws one,
`demonstrate` answers it in a style, `is_correct` judges any answer without looking at its style,
and `style_of` names the style without looking at correctness. Keeping those two apart is the
point: preference may move the wording, never the skill.

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
