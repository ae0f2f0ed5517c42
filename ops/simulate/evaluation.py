"""Paired evaluation of champion and frozen base on the same held-out prompts, without feedback.

The oracle is not a model: it is the expected thumbs-up rate if every answer of the base kept its
correctness and used the family's preferred style. The gap from base to oracle is therefore pure
preference, and only learning the users' preferences closes it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from burnish.learner.tasks import ember
from burnish.ops.simulate.api import ServiceApi
from burnish.ops.simulate.options import Options
from burnish.ops.simulate.population import Population
from burnish.ops.simulate.statistics import Interval, bootstrap, gap_recovered


@dataclass(frozen=True)
class PairedOutcome:
    """One held-out prompt as both versions answered it."""

    family: str
    base_right: bool
    champion_right: bool
    base_style: str | None
    champion_style: str | None
    base_expected: float
    champion_expected: float
    oracle_expected: float


@dataclass(frozen=True)
class Evaluation:
    """Means over the held-out prompts; intervals are 95 % bootstrap intervals."""

    champion: int
    prompts: int
    expected_base: float
    expected_champion: float
    expected_oracle: float
    share: float  # of the gap from base to oracle that the champion recovered
    share_interval: Interval
    gain_interval: Interval
    skill_base: float
    skill_champion: float
    skill_difference: float
    skill_interval: Interval
    style_base: float  # answers in the family's preferred style
    style_champion: float
    families: dict[str, dict[str, float]]


def prompts(options: Options) -> list[ember.Exercise]:
    """Held-out prompts, evenly spread over the families; a seed always gives the same ones."""
    rng = random.Random(f"held-out:{options.seed}")
    names = list(ember.FAMILIES)
    return [
        ember.sample(rng, family=names[number % len(names)], split="heldout")
        for number in range(options.prompts)
    ]


async def evaluate(
    options: Options,
    population: Population,
    api: ServiceApi,
    champion: int,
    progress: Callable[[], None] = lambda: None,
) -> Evaluation | None:
    """Send every prompt to both pinned versions with the same seed; None if no pair was answered."""
    slots = asyncio.Semaphore(options.eval_concurrency)
    outcomes: list[PairedOutcome] = []

    async def ask(number: int, task: ember.Exercise) -> None:
        async with slots:
            replies = []
            for version in (1, champion):
                model = f"{options.policy}@{version}"
                replies.append(await api.chat(task.messages, task.tools, model=model, seed=number))
        progress()
        base_reply, champion_reply = replies
        if base_reply is None or champion_reply is None:
            return
        graded = [
            (
                ember.is_correct(task, reply.text, reply.tool_calls),
                ember.style_of(task, reply.text),
            )
            for reply in (base_reply, champion_reply)
        ]
        (base_right, base_style), (right, style) = graded
        outcomes.append(
            PairedOutcome(
                family=task.family,
                base_right=base_right,
                champion_right=right,
                base_style=base_style,
                champion_style=style,
                base_expected=population.expected(task.family, base_right, base_style),
                champion_expected=population.expected(task.family, right, style),
                oracle_expected=population.oracle_expected(task.family, base_right),
            )
        )

    async with asyncio.TaskGroup() as group:
        for number, task in enumerate(prompts(options)):
            group.create_task(ask(number, task))
    return summarise(outcomes, population, champion) if outcomes else None


def summarise(outcomes: list[PairedOutcome], population: Population, champion: int) -> Evaluation:
    """Means, and their paired bootstrap intervals stratified by family."""
    strata = [row.family for row in outcomes]
    base = np.array([row.base_expected for row in outcomes])
    reached = np.array([row.champion_expected for row in outcomes])
    oracle = np.array([row.oracle_expected for row in outcomes])
    skill_gain = np.array([float(row.champion_right) - float(row.base_right) for row in outcomes])
    families: dict[str, list[PairedOutcome]] = defaultdict(list)
    for row in outcomes:
        families[row.family].append(row)
    return Evaluation(
        champion=champion,
        prompts=len(outcomes),
        expected_base=float(base.mean()),
        expected_champion=float(reached.mean()),
        expected_oracle=float(oracle.mean()),
        share=float(gap_recovered(base.mean(), reached.mean(), oracle.mean())),
        share_interval=bootstrap([base, reached, oracle], gap_recovered, strata=strata),
        gain_interval=bootstrap([reached - base], lambda gain: gain, strata=strata),
        skill_base=float(np.mean([row.base_right for row in outcomes])),
        skill_champion=float(np.mean([row.champion_right for row in outcomes])),
        skill_difference=float(skill_gain.mean()),
        skill_interval=bootstrap([skill_gain], lambda difference: difference, strata=strata),
        style_base=_style_match(outcomes, population, "base_style"),
        style_champion=_style_match(outcomes, population, "champion_style"),
        families={
            family: {
                "prompts": len(rows),
                "skill_base": float(np.mean([row.base_right for row in rows])),
                "skill_champion": float(np.mean([row.champion_right for row in rows])),
                "style_base": _style_match(rows, population, "base_style"),
                "style_champion": _style_match(rows, population, "champion_style"),
                "expected_base": float(np.mean([row.base_expected for row in rows])),
                "expected_champion": float(np.mean([row.champion_expected for row in rows])),
                "expected_oracle": float(np.mean([row.oracle_expected for row in rows])),
            }
            for family, rows in sorted(families.items())
        },
    )


def _style_match(rows: list[PairedOutcome], population: Population, side: str) -> float:
    """Share of answers in their family's preferred style; `side` names the style's field."""
    return float(np.mean([getattr(row, side) == population.preferred[row.family] for row in rows]))
