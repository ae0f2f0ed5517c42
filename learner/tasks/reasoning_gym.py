"""reasoning-gym's tasks as a pack (Stojanovski et al. 2025; the extra `reasoning-gym`).

Questions, levels (its curricula's first three) and scoring are its own; an answer is right where its
score is full. Asked for is a last line `Answer: ...`, since its scorers want the answer alone. The
package is imported on the first draw.
"""

from __future__ import annotations

import re
from functools import cache, partial
from importlib import import_module
from random import Random
from typing import Any

from burnish.learner.tasks.pack import GeneratorPack
from burnish.learner.tasks.task import PackError, Task

# Short prompts whose right answer is short.
DATASETS = (
    "basic_arithmetic", "calendar_arithmetic", "chain_sum", "family_relationships", "gcd", "lcm",
    "leg_counting", "letter_counting", "number_sequence", "products", "simple_equations",
    "spell_backward", "word_sequence_reversal", "word_sorting",
)  # fmt: skip
FULL = 0.99
_ANSWER = re.compile(r"answer\s*:\s*(.+)", re.IGNORECASE)


@cache
def _factory() -> Any:
    try:
        return import_module("reasoning_gym.factory")
    except ImportError as error:
        raise PackError("not installed: pip install 'burnish[reasoning-gym]'") from error


@cache
def _config(dataset: str, level: int) -> Any:
    curriculum = _factory().create_curriculum(dataset)
    for name, attribute in curriculum.attributes.items():
        curriculum.set_attr_level(name, min(level, len(attribute.levels)) - 1)
    return curriculum.generate_configuration({"size": 1})


def _make(dataset: str, rng: Random, level: int) -> Task:
    config = _config(dataset, level)
    made = _factory().create_dataset(dataset, **{**vars(config), "seed": rng.getrandbits(31)})
    entry = made[0]
    prompt = f"{entry['question'].strip()}\n\nEnd with a line that says: Answer: ..."

    def check(answer: str) -> bool:
        found = _ANSWER.findall(answer)
        said = found[-1] if found else answer.strip()
        return bool(made.score_answer(said.strip(" *`."), entry) >= FULL)

    return Task(dataset, ({"role": "user", "content": prompt},), check, level=level)


PACK = GeneratorPack("reasoning-gym", {name: partial(_make, name) for name in DATASETS})
