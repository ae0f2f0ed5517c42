"""How well votes are used, on the shipped model: `python -m burnish.ops.bench.learning`.

The simulated population judges answers in this process, without HTTP, stream or registry; the learner's own
code learns from them (lib/learning_loop.py), trust included, update after update, of as many steps as one core
has time for at the pace of `burnish up`: so runs may share a machine, and each seed has a process of its own.
Each answer that people judge is one of four, chosen as serving does (BURNISH_BEST_OF) by the last update's reward
model, and one in four is the base's (BURNISH_EXPLORE). The measure is style alone: the share of the way that a
version has gone from the frozen base to always the liked style, as if every family kept the base's skill; skill
is told beside it. Besides the plain run: votes that are pure noise, tastes that are others after some votes, and
TRL's KTO on a log of the base's answers. Left out: latency of updates while people vote (`make bench-simulate`
has it).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from burnish.learner.gate.checks import mean
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks.ember import FAMILIES, STYLES, Exercise, is_correct, sample, style_of
from burnish.ops.bench.lib.choosing import given_of
from burnish.ops.bench.lib.learning_loop import LOG, Answer, LearningLoop, Vote, changed
from burnish.ops.bench.lib.learning_report import (
    BEST_WAYS,
    CANDIDATES,
    People,
    check_goals,
    plot,
    print_tables,
)
from burnish.ops.bench.lib.liking import liking
from burnish.ops.bench.lib.real_baselines import METHODS, Method, train_baseline, write_log
from burnish.ops.bench.lib.results import FOLDER, write_results
from burnish.ops.settings import DEMO_UPDATE_EVERY
from burnish.ops.simulate.population import Population, User, draw_population
from burnish.serving.reward.reward_model import RewardModel
from rich.console import Console

ANSWER_TOKENS = 96
BATCH = 96  # answers that are judged before more are drawn
STEPS = 26  # of an update: so many take 15 seconds on one core
NEVER = 1e6  # seconds, which end no update
EXAM_SEED = 7
RATES = (5e-4, 1e-3, 2e-3)  # that the baselines are tuned over
console = Console(stderr=True)


@dataclass(frozen=True)
class Exam:
    """What a version answered to the held-out tasks: families, whether right, and in which style."""

    families: Sequence[str]
    right: Sequence[bool]
    styles: Sequence[str | None]
    people: Population

    @property
    def skill(self) -> float:
        return mean(self.right)

    def style_alone(self, skills: Mapping[str, float], liked: bool = False) -> float:
        """The expected rate of thumbs up as if each family had these skills; with every answer in the
        liked style, if so asked."""
        total = 0.0
        for family, own in zip(self.families, self.styles, strict=True):
            style = self.people.preferred[family] if liked else own
            total += skills[family] * self.people.expected(family, True, style)
            total += (1 - skills[family]) * self.people.expected(family, False, style)
        return total / len(self.families)

    def by_family(self, hits: Sequence[bool]) -> dict[str, float]:
        return {
            family: mean([hit for f, hit in zip(self.families, hits, strict=True) if f == family])
            for family in dict.fromkeys(self.families)
        }

    @property
    def in_style(self) -> dict[str, float]:
        """Per family the share of answers in the liked style."""
        pairs = zip(self.families, self.styles, strict=True)
        return self.by_family([style == self.people.preferred[family] for family, style in pairs])


def main(
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="0, 1 and 2.")] = None,
    votes: Annotated[int, typer.Option(help="Votes in all.")] = 3072,
    pace: Annotated[int, typer.Option(help="Votes between updates.")] = 128,
    every: Annotated[int, typer.Option(help="Updates between exams.")] = 4,
    people: Annotated[People, typer.Option(help="How people vote.")] = People.steady,
    exam: Annotated[int, typer.Option(help="Held-out tasks of each family.")] = 20,
    best_of: Annotated[int, typer.Option(help="BURNISH_BEST_OF, of serving.")] = 4,
    explore: Annotated[float, typer.Option(help="BURNISH_EXPLORE, of serving.")] = 0.25,
    baselines: Annotated[bool, typer.Option(help="TRL's KTO and DPO, tuned.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=JSON", help="Another setting of the learner."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = FOLDER,
) -> None:
    """Measure how far votes bring the shipped model."""
    changes = changed(change)
    plan = Plan(votes, pace, every, people, exam, baselines, best_of, explore)
    seeds = seeds or [0, 1, 2]
    with ProcessPoolExecutor(len(seeds), get_context("spawn")) as processes:
        started = [processes.submit(run, seed, plan, changes) for seed in seeds]
        runs = [each.result() for each in started]
    name = "learning" if people is People.steady else f"learning-{people}"
    served = {"best_of": best_of, "explore": explore}
    figures = {"people": people, **served, "settings": changes, "runs": runs}
    goals = check_goals(people, runs)
    print(write_results(name, figures, out, must_show=goals))
    print_tables(runs, goals)
    print(plot(people, runs, out / f"{name}.png"))


@dataclass(frozen=True)
class Plan:
    """The size of a run; `main` says what each is."""

    votes: int
    pace: int
    every: int
    people: People
    exam: int
    baselines: bool
    best_of: int
    explore: float


def run(seed: int, plan: Plan, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The exams of one population, and what each update did."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = LearnerSettings(
            model=Path(__file__).parents[1] / "ember",
            seed=seed,
            data_dir=Path(scratch),
            **{
                "update_every": DEMO_UPDATE_EVERY,
                "update_seconds": NEVER,
                "update_steps": STEPS,
                **changes,
            },
        )
        torch.set_num_threads(settings.threads)
        loop = LearningLoop(settings)
        return Run(loop, plan, seed).figures()


class Run:
    """One population's votes, and where they lead."""

    def __init__(self, loop: LearningLoop, plan: Plan, seed: int) -> None:
        self.loop, self.plan, self.seed = loop, plan, seed
        self.rng = random.Random(f"bench:{seed}")
        heldout = random.Random("bench:heldout")
        self.tasks = [
            sample(heldout, family, "heldout") for family in FAMILIES for _ in range(plan.exam)
        ]
        self.people = draw_population(families=list(FAMILIES), styles=STYLES, seed=seed)
        self.base = self.examine(None)
        self.skills = self.base.by_family(self.base.right)
        self.learnt: dict[str, Any] = {"kl": 0.0}

    def figures(self) -> dict[str, Any]:
        began, exams = time.monotonic(), []
        updates = self.plan.votes // self.plan.pace
        for number in range(1, updates + 1):
            if self.plan.people is People.change and number == updates // 2 + 1:
                self.people = draw_population(
                    families=list(FAMILIES), styles=STYLES, seed=self.seed + 1000
                )
                self.base = Exam(self.base.families, self.base.right, self.base.styles, self.people)
            self.loop.judge(self.judged())
            learnt = self.learn()
            if number % self.plan.every == 0:
                exam = self.told(self.examine(self.loop.adapter))
                exams.append({**exam, **self.best_ways(), **learnt})
                console.print(f"seed {self.seed}: {exams[-1]}", highlight=False)
        found = {"seed": self.seed, "base_skill": self.base.skill, "exams": exams}
        found["seconds"] = round(time.monotonic() - began, 1)
        if self.plan.baselines:
            found["baselines"] = self.baselines()
        return found

    def judged(self) -> list[Vote]:
        """The votes between two updates, a share of them on what the base answers."""
        explored = round(self.plan.explore * self.plan.pace)
        votes = self.cast(self.plan.pace - explored, self.served(self.loop.adapter))
        votes += self.cast(explored, self.served(None))
        self.rng.shuffle(votes)
        return votes

    def learn(self) -> dict[str, Any]:
        """An update, and what it says of itself; after one without anything to learn, its reason."""
        try:
            progress = self.loop.update().progress
        except NothingToLearn as why:
            return {**self.learnt, "why_not": str(why)}
        names = ("kl", "entropy", "sure", "reward_auroc", "preference_weight", "burden")
        told = progress.figures
        self.learnt = {name: told[name] for name in names if name in told}
        self.learnt["kl_per_answer"] = told["kl"] * told["tokens"] / max(1.0, told["answers"])
        return {**self.learnt, "steps": progress.step, "seconds": progress.seconds}

    def way(self, exam: Exam) -> float:
        lowest = self.base.style_alone(self.skills)
        highest = self.base.style_alone(self.skills, liked=True)
        return round((exam.style_alone(self.skills) - lowest) / (highest - lowest), 4)

    def told(self, exam: Exam) -> dict[str, Any]:
        styles = exam.in_style
        return {
            "votes": len(self.loop.votes),
            "way": self.way(exam),
            "skill": round(exam.skill, 4),
            "least_liked_style": round(min(styles.values()), 3),
            "in_liked_style": {family: round(share, 2) for family, share in styles.items()},
            "families_below_half": sum(share < 0.5 for share in styles.values()),
        }

    def best_ways(self) -> dict[str, float]:
        """The way of what serving would choose by the latest reward model: among the base's answers, which
        is what votes do before any weight moves, and among the version's."""
        reward = self.loop.reward
        if reward is None:
            return {}
        return {
            f"best_of_{CANDIDATES}_{name}": self.way(self.examine(adapter, reward))
            for name, adapter in zip(BEST_WAYS, (None, self.loop.adapter), strict=True)
        }

    def examine(self, adapter: str | None, reward: RewardModel | None = None) -> Exam:
        """One answer of a version to each task, or what serving would choose by a reward model."""
        samples = CANDIDATES if reward else 1
        given = self.loop.answer(
            self.tasks, samples=samples, max_tokens=ANSWER_TOKENS, seed=EXAM_SEED, adapter=adapter
        )
        answers = given_of(self.loop.learner.model, reward, given, EXAM_SEED)
        texts = [answer.text for answer in answers]
        pairs = list(zip(self.tasks, texts, strict=True))
        return Exam(
            [task.family for task in self.tasks],
            [is_correct(task, text) for task, text in pairs],
            [style_of(task, text) for task, text in pairs],
            self.people,
        )

    def cast(self, count: int, answers: Iterator[tuple[Exercise, Answer]]) -> list[Vote]:
        """So many votes of random people on one answer after another."""
        votes: list[Vote] = []
        while len(votes) < count:
            votes += self.votes(self.rng.choice(self.people.users), *next(answers))
        return votes[:count]

    def served(self, adapter: str | None) -> Iterator[tuple[Exercise, Answer]]:
        """What a version gives to one prompt after another, chosen among candidates once there is a reward model."""
        reward = self.loop.reward if self.plan.best_of > 1 else None
        for tasks, given, seed in self.asked(adapter, self.plan.best_of if reward else 1):
            answers = given_of(self.loop.learner.model, reward, given, seed)
            yield from zip(tasks, answers, strict=True)

    def pairs(self) -> Iterator[tuple[Exercise, Answer]]:
        """Two answers of the base to one prompt after another."""
        for tasks, given, _ in self.asked(None, 2):
            for task, both in zip(tasks, given, strict=True):
                yield from ((task, answer) for answer in both)

    def asked(
        self, adapter: str | None, samples: int
    ) -> Iterator[tuple[list[Exercise], list[list[Answer]], int]]:
        """Random prompts, so many answers to each, and the seed of the first."""
        while True:
            tasks, seed = [sample(self.rng) for _ in range(BATCH)], self.rng.getrandbits(30)
            given = self.loop.answer(
                tasks, samples=samples, max_tokens=ANSWER_TOKENS, seed=seed, adapter=adapter
            )
            yield tasks, given, seed

    def votes(self, user: User, task: Exercise, answer: Answer) -> list[Vote]:
        if self.plan.people is People.noise:
            return [Vote(answer, user.id, self.rng.random() < 0.5)]
        chance = liking(self.people, user, answer)
        return [Vote(answer, user.id, up) for up in self.people.votes(user, chance, self.rng)[-1:]]

    def baselines(self) -> dict[str, Any]:
        """What TRL makes of as many votes on the base's answers, two to a prompt, which DPO has its pairs of."""
        self.loop.keep_log(self.cast(self.plan.votes, self.pairs()))
        return {method: self.baseline(method) for method in METHODS}

    def baseline(self, method: Method) -> dict[str, Any]:
        """A method's best run over the learning rates, by the exam itself: in its favour."""
        learner, runs = self.loop.learner, []
        folder = self.loop.settings.data_dir / method
        folder.mkdir()
        rows = write_log(learner.database, LOG, method, folder / "log.jsonl")
        for rate in RATES:
            adapter = train_baseline(
                method, learner.model.path, folder / "log.jsonl", folder / str(rate), rate
            )
            learner.engine.load_adapter(method, adapter)
            found = {**self.told(self.examine(method)), "votes": self.plan.votes}
            learner.engine.unload_adapter(method)
            runs.append({"rate": rate, "rows": rows, **found})
            console.print(f"seed {self.seed}: {method} {runs[-1]}", highlight=False)
        return max(runs, key=lambda run: run["way"])


if __name__ == "__main__":
    typer.run(main)
