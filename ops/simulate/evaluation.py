"""The verdict: champion against frozen base on the same held-out prompts, feedback stopped.

The oracle is not a model. It is what the base would be worth if each of its answers kept
its rightness and came in the family's preferred style, so the way from base to oracle is
preference alone, and a champion can only walk it by learning what people like.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from burnish.learner import tasks
from burnish.ops.simulate.api import Api
from burnish.ops.simulate.options import Options
from burnish.ops.simulate.population import Population
from burnish.ops.simulate.stats import Interval, bootstrap, share_of_way


@dataclass(frozen=True)
class Judged:
    """One held-out prompt answered by both."""

    family: str
    base_right: bool
    champion_right: bool
    base_style: str | None
    champion_style: str | None
    base_expected: float
    champion_expected: float
    oracle_expected: float


@dataclass(frozen=True)
class Verdict:
    champion: int
    prompts: int
    expected_base: float
    expected_champion: float
    expected_oracle: float
    share: float
    share_interval: Interval
    gain_interval: Interval
    skill_base: float
    skill_champion: float
    skill_difference: float
    skill_interval: Interval
    style_base: float  # answers in the family's preferred style
    style_champion: float
    families: dict[str, dict[str, float]]


def prompts(options: Options) -> list[tasks.Task]:
    """The fixed held-out prompts: the same for a seed, spread evenly over the families."""
    rng = random.Random(f"held-out:{options.seed}")
    names = list(tasks.FAMILIES)
    return [
        tasks.sample(rng, family=names[number % len(names)], split="heldout")
        for number in range(options.prompts)
    ]


async def evaluate(
    options: Options,
    people: Population,
    api: Api,
    champion: int,
    progress: Callable[[], None] = lambda: None,
) -> Verdict | None:
    """Ask both versions every prompt, pinned, with the same seed; None when nothing came back."""
    slots = asyncio.Semaphore(options.eval_concurrency)
    judged: list[Judged] = []

    async def ask(number: int, task: tasks.Task) -> None:
        async with slots:
            replies = []
            for version in (1, champion):
                model = f"{options.policy}@{version}"
                replies.append(await api.chat(task.messages, task.tools, model=model, seed=number))
        progress()
        base, best = replies
        if base is None or best is None:
            return
        grades = [
            (
                tasks.is_correct(task, reply.text, reply.tool_calls),
                tasks.style_of(task, reply.text),
            )
            for reply in (base, best)
        ]
        (base_right, base_style), (right, style) = grades
        judged.append(
            Judged(
                family=task.family,
                base_right=base_right,
                champion_right=right,
                base_style=base_style,
                champion_style=style,
                base_expected=people.expected(task.family, base_right, base_style),
                champion_expected=people.expected(task.family, right, style),
                oracle_expected=people.best(task.family, base_right),
            )
        )

    async with asyncio.TaskGroup() as group:
        for number, task in enumerate(prompts(options)):
            group.create_task(ask(number, task))
    return verdict(judged, people, champion) if judged else None


def verdict(judged: list[Judged], people: Population, champion: int) -> Verdict:
    """The figures and their paired, stratified bootstrap intervals."""
    strata = [row.family for row in judged]
    base = np.array([row.base_expected for row in judged])
    best = np.array([row.champion_expected for row in judged])
    oracle = np.array([row.oracle_expected for row in judged])
    gained = np.array([float(row.champion_right) - float(row.base_right) for row in judged])
    families: dict[str, list[Judged]] = defaultdict(list)
    for row in judged:
        families[row.family].append(row)
    return Verdict(
        champion=champion,
        prompts=len(judged),
        expected_base=float(base.mean()),
        expected_champion=float(best.mean()),
        expected_oracle=float(oracle.mean()),
        share=float(share_of_way(base.mean(), best.mean(), oracle.mean())),
        share_interval=bootstrap([base, best, oracle], share_of_way, strata=strata),
        gain_interval=bootstrap([best - base], lambda gain: gain, strata=strata),
        skill_base=float(np.mean([row.base_right for row in judged])),
        skill_champion=float(np.mean([row.champion_right for row in judged])),
        skill_difference=float(gained.mean()),
        skill_interval=bootstrap([gained], lambda difference: difference, strata=strata),
        style_base=_match(judged, people, "base_style"),
        style_champion=_match(judged, people, "champion_style"),
        families={
            family: {
                "prompts": len(rows),
                "skill_base": float(np.mean([row.base_right for row in rows])),
                "skill_champion": float(np.mean([row.champion_right for row in rows])),
                "style_base": _match(rows, people, "base_style"),
                "style_champion": _match(rows, people, "champion_style"),
                "expected_base": float(np.mean([row.base_expected for row in rows])),
                "expected_champion": float(np.mean([row.champion_expected for row in rows])),
                "expected_oracle": float(np.mean([row.oracle_expected for row in rows])),
            }
            for family, rows in sorted(families.items())
        },
    )


def _match(rows: list[Judged], people: Population, side: str) -> float:
    return float(np.mean([getattr(row, side) == people.preferred[row.family] for row in rows]))
