"""The families of the shipped model: what it was pretrained on, and its pack for gate and rehearsal.

An `Exercise` is a short chat with one right answer and many right wordings. `sample` draws one,
`demonstrate` answers it in a style, `is_correct` checks any answer whatever its style, and
`style_of` names the style whether or not the answer is right. The two are independent, so that
preferences for a style and the skill are measured apart.

Plain Python: neither torch nor a tokenizer is imported here.
"""

from burnish.learner.tasks.ember.catalogue import FAMILIES, demonstrate, is_correct, sample
from burnish.learner.tasks.ember.core import STYLES, Exercise, Family, TaskError
from burnish.learner.tasks.ember.styles import style_of

__all__ = [
    "FAMILIES",
    "STYLES",
    "Exercise",
    "Family",
    "TaskError",
    "demonstrate",
    "is_correct",
    "sample",
    "style_of",
]
