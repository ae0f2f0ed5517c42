"""What a correction is worth beside a thumb, on the shipped model: `python -m burnish.ops.bench.corrections`.

People mind one habit of the model: greeting before an answer and wishing well after it. Some of them
write out the same answer without that; others, more of them, only give thumbs, down for the habit and up
for its absence, one in five the wrong way round. Each learns in its own process of updates (lib/learning_loop.py), and held-out prompts are asked
before and after: what share of the habit is gone, and at what price in skill.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from burnish.learner.gate.checks import mean
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks.ember import FAMILIES, Exercise, is_correct, sample
from burnish.learner.tasks.ember.styles import CLOSERS, OPENERS
from burnish.ops.bench.lib.learning_loop import Answer, LearningLoop, Vote
from burnish.ops.bench.lib.results import FOLDER, MustShow, write_results
from burnish.ops.settings import DEMO_UPDATE_EVERY
from rich.console import Console

ANSWER_TOKENS = 96
BATCH = 96  # answers that are read before more are drawn
EXAM_SEED = 7
FLIP = 0.2  # share of thumbs that say the opposite
HABIT = (*OPENERS, *CLOSERS)
GONE = 0.8  # of the habit, after the corrections
LOST_SKILL = 0.02
console = Console(stderr=True)


def main(
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="0, 1 and 2.")] = None,
    corrections: Annotated[int, typer.Option(help="Answers that are rewritten.")] = 100,
    thumbs: Annotated[int, typer.Option(help="Votes of those who only vote.")] = 300,
    updates: Annotated[int, typer.Option(help="Updates they are spread over.")] = 4,
    exam: Annotated[int, typer.Option(help="Held-out tasks of each family.")] = 20,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = FOLDER,
) -> None:
    """Measure what corrections do to a habit, beside thumbs."""
    runs = []
    for seed in seeds or (0, 1, 2):
        run: dict[str, Any] = {"seed": seed}
        for way, count in (("corrections", corrections), ("thumbs", thumbs)):
            run[way] = {"count": count, **learn(seed, way, count, updates, exam)}
            console.print(f"seed {seed}: {way} {run[way]}", highlight=False)
        runs.append(run)
    figures = {"updates": updates, "runs": runs}
    print(write_results("corrections", figures, out, must_show=check_goals(runs)))


def learn(seed: int, way: str, count: int, updates: int, exam: int) -> dict[str, float]:
    """The habit and the skill on held-out tasks before and after so many judgements of one kind."""
    rng, heldout = random.Random(f"habit:{seed}"), random.Random("habit:heldout")
    tasks = [sample(heldout, family, "heldout") for family in FAMILIES for _ in range(exam)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = LearnerSettings(
            model=Path(__file__).parents[1] / "ember",
            seed=seed,
            data_dir=Path(scratch),
            update_every=DEMO_UPDATE_EVERY,
        )
        torch.set_num_threads(settings.threads)
        loop = LearningLoop(settings)
        habit, skill = examine(loop, tasks)
        for number in range(1, updates + 1):
            wanted = count * number // updates - len(loop.votes)
            loop.judge(judgements(loop, way, wanted, rng))
            loop.update()
        after, skill_after = examine(loop, tasks)
    return {
        "habit": habit,
        "habit_after": after,
        "gone": 1 - after / habit,
        "skill": skill,
        "skill_after": skill_after,
    }


def examine(loop: LearningLoop, tasks: Sequence[Exercise]) -> tuple[float, float]:
    """The shares of answers that show the habit and that are right."""
    given = loop.answer(tasks, max_tokens=ANSWER_TOKENS, seed=EXAM_SEED, adapter=loop.adapter)
    texts = [answer.text for [answer] in given]
    right = [is_correct(task, text) for task, text in zip(tasks, texts, strict=True)]
    return mean([has_habit(text) for text in texts]), mean(right)


def judgements(loop: LearningLoop, way: str, count: int, rng: random.Random) -> list[Vote]:
    """So many of them on the present version's answers, each by somebody else; no more where hardly any
    answer is left to correct."""
    found: list[Vote] = []
    for _ in range(20 * count // BATCH + 20):
        tasks = [sample(rng) for _ in range(BATCH)]
        given = loop.answer(
            tasks, max_tokens=ANSWER_TOKENS, seed=rng.getrandbits(30), adapter=loop.adapter
        )
        for [answer] in given:
            found += judged(answer, way, rng, f"{way}-{len(loop.votes) + len(found)}")
        if len(found) >= count:
            break
    return found[:count]


def judged(answer: Answer, way: str, rng: random.Random, user: str) -> list[Vote]:
    """Who corrects says nothing of an answer without the habit, nor of one that calls a tool."""
    if way == "thumbs":
        return [Vote(answer, user, up=has_habit(answer.text) == (rng.random() < FLIP))]
    if not has_habit(answer.text) or "<tool_call>" in answer.text:
        return []
    return [Vote(answer, user, up=False, correction=without_habit(answer.text))]


def has_habit(text: str) -> bool:
    return any(phrase in text for phrase in HABIT)


def without_habit(text: str) -> str:
    for phrase in HABIT:
        text = text.replace(phrase, "")
    return text.strip()


def check_goals(runs: Sequence[Mapping[str, Any]]) -> list[MustShow]:
    def usual(way: str, name: str) -> float:
        return statistics.mean(run[way][name] for run in runs)

    gone, by_thumbs = usual("corrections", "gone"), usual("thumbs", "gone")
    lost = max(run["corrections"]["skill"] - run["corrections"]["skill_after"] for run in runs)
    given, votes = runs[0]["corrections"]["count"], runs[0]["thumbs"]["count"]
    return [
        MustShow(
            f"share of a habit gone after {given} corrections", gone, f">= {GONE}", gone >= GONE
        ),
        MustShow(
            f"share of it gone after {votes} thumbs",
            by_thumbs,
            "less than that",
            by_thumbs < gone,
        ),
        MustShow("skill lost to the corrections", lost, f"<= {LOST_SKILL}", lost <= LOST_SKILL),
    ]


if __name__ == "__main__":
    typer.run(main)
