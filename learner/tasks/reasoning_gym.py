"""Tasks drawn from reasoning-gym (an optional extra) where it has one of our families.

Prompts and answers are reasoning-gym's; wording and checking are ours, so its tasks mix with the
built-in ones. The package is imported on the first draw.
"""

from random import Random
from typing import Any

from burnish.learner.tasks.core import Task, TaskError, user

# our family -> (its dataset, settings that keep prompts short)
DATASETS: dict[str, tuple[str, dict[str, Any]]] = {
    "arithmetic": (
        "chain_sum",
        {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
    ),
    "reverse": ("spell_backward", {"min_word_len": 3, "max_word_len": 7}),
    "counting": ("letter_counting", {"min_words": 1, "max_words": 3}),
    "sorting": ("number_sorting", {"min_numbers": 3, "max_numbers": 5}),
    "sequence": ("number_sequence", {"min_terms": 4, "max_terms": 5}),
}


class ReasoningGymMissing(TaskError, ImportError):
    """The extra is not installed."""


def sample(rng: Random, family: str) -> Task:
    """One task of `family` from reasoning-gym.

    Raises ReasoningGymMissing without the extra, TaskError for a family that it does not have.
    """
    if family not in DATASETS:
        raise TaskError(f"reasoning-gym has no {family!r}; it has {', '.join(sorted(DATASETS))}")
    try:
        import reasoning_gym
    except ImportError as error:
        raise ReasoningGymMissing(
            "reasoning-gym is not installed: pip install 'burnish[reasoning-gym]'"
        ) from error
    name, settings = DATASETS[family]
    draw: Any = reasoning_gym.create_dataset  # pyright: ignore[reportAttributeAccessIssue]
    entry = draw(name, size=1, seed=rng.getrandbits(31), **settings)[0]
    answer = str(entry["answer"]).strip().strip("[]").replace("'", "")
    reason = f"{name.replace('_', ' ')} asks for it"
    return Task(family, (user(entry["question"].strip()),), answer, level=3, reason=reason)
