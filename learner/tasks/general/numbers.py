"""Sums and comparisons in plain words; the last number of an answer counts, whatever surrounds it."""

from __future__ import annotations

from random import Random

from burnish.learner.tasks import checks
from burnish.learner.tasks.general.words import NAMES, THINGS
from burnish.learner.tasks.task import Check, Task


def _task(prompt: str, check: Check) -> Task:
    return Task("", ({"role": "user", "content": prompt},), check)


def sums(rng: Random, level: int) -> Task:
    """Two numbers to add or take away; from level 2 larger, at level 3 a product too."""
    top = (20, 100, 1000)[level - 1]
    a, b = rng.randint(2, top), rng.randint(2, top)
    if level == 3 and rng.random() < 0.5:
        a, b = rng.randint(2, 12), rng.randint(2, 12)
        return _task(f"What is {a} times {b}?", checks.number(a * b))
    if rng.random() < 0.5:
        asked = rng.choice((f"What is {a} + {b}?", f"Add {a} and {b}.", f"What is {a} plus {b}?"))
        return _task(asked, checks.number(a + b))
    a, b = max(a, b), min(a, b)
    asked = rng.choice((f"What is {a} - {b}?", f"Take {b} away from {a}.", f"{a} minus {b} is?"))
    return _task(asked, checks.number(a - b))


def stories(rng: Random, level: int) -> Task:
    """A short story about things that are given, lost or bought."""
    top = (10, 30, 100)[level - 1]
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    start, change = rng.randint(top // 2, top), rng.randint(2, top // 2)
    what, result = rng.choice(
        (
            (f"gives {change} of them to {other}", start - change),
            (f"loses {change} of them", start - change),
            (f"gets {change} more from {other}", start + change),
            (f"buys {change} more", start + change),
        )
    )
    told = f"{name} has {start} {thing} and {what}."
    if level > 1:
        more = rng.randint(2, top)
        told, result = f"{told} Then {name} finds {more} more.", result + more
    return _task(f"{told} How many {thing} does {name} have now?", checks.number(result))


def comparisons(rng: Random, level: int) -> Task:
    """The largest or smallest of some numbers."""
    many, top = (2, 4, 6)[level - 1], (50, 200, 1000)[level - 1]
    numbers = rng.sample(range(1, top), many)
    largest = rng.random() < 0.5
    word = "largest" if largest else "smallest"
    listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
    return _task(
        f"Which is the {word} of {listed}? Answer with the number only.",
        checks.number(max(numbers) if largest else min(numbers)),
    )


GENERATORS = {"sums": sums, "stories": stories, "comparisons": comparisons}
