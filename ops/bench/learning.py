"""How well votes are used, on the shipped model: `python -m burnish.ops.bench.learning`.

The simulated population judges answers in this process, without HTTP, stream or registry; the learner's own
code learns from them (lib/learning_loop.py), trust included, update after update, of as many steps as one core
has time for at the pace of `burnish up`: so runs may share a machine, and each seed has a process of its own.
One answer in eight is the base's (BURNISH_EXPLORE). The measure is style alone: the share of the way that a
version has gone from the frozen base to always the liked style, as if every family kept the base's skill; skill
is told beside it. Besides the plain run: votes that are pure noise, tastes that are others after some votes, and
TRL's KTO on a log of the base's answers. Left out: latency of updates while people vote (`make bench-simulate`
has it).
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from burnish.learner.gate.checks import mean
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks.ember import FAMILIES, STYLES, Exercise, is_correct, sample, style_of
from burnish.ops.bench.lib.choosing import chosen, features_of
from burnish.ops.bench.lib.learning_loop import LOG, Answer, LearningLoop, Vote, changed
from burnish.ops.bench.lib.liking import liking
from burnish.ops.bench.lib.real_baselines import train_baseline, write_log
from burnish.ops.bench.lib.results import FOLDER, MustShow, write_results
from burnish.ops.settings import DEMO_UPDATE_EVERY
from burnish.ops.simulate.population import Population, User, draw_population
from burnish.serving.reward.reward_model import RewardModel
from rich.console import Console

ANSWER_TOKENS = 96
BATCH = 96  # answers that are judged before more are drawn
STEPS = 26  # of an update: so many take 15 seconds on one core
NEVER = 1e6  # seconds, which end no update
EXAM_SEED = 7
WAYS = {1000: 0.5, 3000: 0.85, 6000: 0.93}  # share of the way at so many votes
CANDIDATES = 8  # that serving chooses an answer from, beside the plain exam
BEST_WAYS = {"base": 0.5, "version": 0.6}  # share of the way at 1,000 votes, by the best of them
BESIDE_KTO = 0.25  # of its votes, that lead as far
RATES = (5e-4, 1e-3, 2e-3)  # that KTO is tuned over
console = Console(stderr=True)


class People(StrEnum):
    steady = "steady"
    noise = "noise"  # they vote by the toss of a coin
    change = "change"  # half way their tastes become others


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
    explore: Annotated[float, typer.Option(help="BURNISH_EXPLORE, of serving.")] = 0.125,
    baselines: Annotated[bool, typer.Option(help="TRL's KTO, tuned.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=JSON", help="Another setting of the learner."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = FOLDER,
) -> None:
    """Measure how far votes bring the shipped model."""
    changes = changed(change)
    plan = Plan(votes, pace, every, people, exam, baselines, explore)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        started = [processes.submit(run, seed, plan, changes) for seed in seeds or (0, 1, 2)]
        runs = [each.result() for each in started]
    name = "learning" if people is People.steady else f"learning-{people}"
    figures = {"people": people, "explore": explore, "settings": changes, "runs": runs}
    print(write_results(name, figures, out, must_show=check_goals(people, runs)))


@dataclass(frozen=True)
class Plan:
    """The size of a run; `main` says what each is."""

    votes: int
    pace: int
    every: int
    people: People
    exam: int
    baselines: bool
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
            self.loop.judge(self.served())
            learnt = self.learn()
            if number % self.plan.every == 0:
                exam = self.told(self.examine(self.loop.adapter))
                exams.append({**exam, **self.best_ways(), **learnt})
                console.print(f"seed {self.seed}: {exams[-1]}", highlight=False)
        found = {"seed": self.seed, "base_skill": self.base.skill, "exams": exams}
        found["seconds"] = round(time.monotonic() - began, 1)
        if self.plan.baselines:
            found["kto"] = self.kto()
        return found

    def served(self) -> list[Vote]:
        """The votes between two updates, a share of them on what the base answers."""
        explored = round(self.plan.explore * self.plan.pace)
        votes = self.cast(self.loop.adapter, self.plan.pace - explored) + self.cast(None, explored)
        self.rng.shuffle(votes)
        return votes

    def learn(self) -> dict[str, Any]:
        """An update, and what it says of itself; after one without anything to learn, its reason."""
        try:
            progress = self.loop.update().progress
        except NothingToLearn as why:
            return {**self.learnt, "why_not": str(why)}
        names = ("kl", "entropy", "reward_auroc", "preference_weight", "burden")
        self.learnt = {name: progress.figures[name] for name in names if name in progress.figures}
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
        trained = self.loop.trained
        reward = RewardModel.load(trained.rule_state) if trained else None
        if reward is None:
            return {}
        return {
            f"best_of_{CANDIDATES}_{name}": self.way(self.examine(adapter, reward))
            for name, adapter in (("base", None), ("version", self.loop.adapter))
        }

    def examine(self, adapter: str | None, reward: RewardModel | None = None) -> Exam:
        """One answer of a version to each task, or what serving would choose by a reward model."""
        samples = CANDIDATES if reward else 1
        given = self.loop.answer(
            self.tasks, samples=samples, max_tokens=ANSWER_TOKENS, seed=EXAM_SEED, adapter=adapter
        )
        answers = [group[0] for group in given] if reward is None else self.chosen(reward, given)
        texts = [answer.text for answer in answers]
        pairs = list(zip(self.tasks, texts, strict=True))
        return Exam(
            [task.family for task in self.tasks],
            [is_correct(task, text) for task, text in pairs],
            [style_of(task, text) for task, text in pairs],
            self.people,
        )

    def chosen(self, reward: RewardModel, given: Sequence[Sequence[Answer]]) -> list[Answer]:
        features = features_of(self.loop.learner.model, given).split(CANDIDATES)
        return [
            group[chosen(reward, group, of_group, EXAM_SEED + number)]
            for number, (group, of_group) in enumerate(zip(given, features, strict=True))
        ]

    def cast(self, adapter: str | None, count: int) -> list[Vote]:
        """So many votes of random people on a version's answers."""
        votes: list[Vote] = []
        while len(votes) < count:
            tasks = [sample(self.rng) for _ in range(BATCH)]
            given = self.loop.answer(
                tasks, max_tokens=ANSWER_TOKENS, seed=self.rng.getrandbits(30), adapter=adapter
            )
            for task, [answer] in zip(tasks, given, strict=True):
                votes += self.votes(self.rng.choice(self.people.users), task, answer)
        return votes[:count]

    def votes(self, user: User, task: Exercise, answer: Answer) -> list[Vote]:
        if self.plan.people is People.noise:
            return [Vote(answer, user.id, self.rng.random() < 0.5)]
        chance = liking(self.people, user, answer)
        return [Vote(answer, user.id, up) for up in self.people.votes(user, chance, self.rng)[-1:]]

    def kto(self) -> dict[str, Any]:
        """TRL's KTO on as many votes on the base's answers, at its best learning rate."""
        loop = self.loop
        loop.keep_log(self.cast(None, self.plan.votes))
        folder, runs = loop.settings.data_dir / "kto", []
        folder.mkdir()
        write_log(loop.learner.database, LOG, "kto", folder / "log.jsonl")
        for rate in RATES:
            adapter = train_baseline(
                "kto", loop.learner.model.path, folder / "log.jsonl", folder / str(rate), rate
            )
            loop.learner.engine.load_adapter("kto", adapter)
            runs.append({"rate": rate, **self.told(self.examine("kto"))})
            loop.learner.engine.unload_adapter("kto")
            console.print(f"seed {self.seed}: KTO {runs[-1]}", highlight=False)
        return max(runs, key=lambda run: run["way"])


def check_goals(people: People, runs: Sequence[Mapping[str, Any]]) -> list[MustShow]:
    """What the benchmark promises of these people."""
    if people is People.noise:
        last = [run["exams"][-1] for run in runs]
        kl = max(exam["kl"] for exam in last)
        lost = max(run["base_skill"] - run["exams"][-1]["skill"] for run in runs)
        return [
            MustShow("KL after votes that are noise", kl, "< 0.01", kl < 0.01),
            MustShow("skill lost to noise", lost, "<= 0.02", lost <= 0.02),
        ]
    if people is People.change:
        return [_recovered(runs)]
    goals = []
    for votes, goal in WAYS.items():
        ways = [e["way"] for run in runs for e in run["exams"] if votes <= e["votes"] < 1.2 * votes]
        if ways:
            way = statistics.mean(ways)
            line = f"share of the way at {votes:,} votes, style alone"
            goals.append(MustShow(line, way, f">= {goal:g}", way >= goal))
    first = [next((e for e in run["exams"] if e["votes"] >= 1000), {}) for run in runs]
    for name, goal in BEST_WAYS.items():
        ways = [exam[key] for exam in first if (key := f"best_of_{CANDIDATES}_{name}") in exam]
        if ways:
            way = statistics.mean(ways)
            line = f"the same at 1,000 votes by the best of {CANDIDATES} of the {name}'s answers"
            goals.append(MustShow(line, way, f">= {goal:g}", way >= goal))
    if all("kto" in run for run in runs):
        goals.append(_beside_kto(runs))
    least = min(run["exams"][-1]["least_liked_style"] for run in runs)
    goals.append(MustShow("the liked style in the worst family", least, ">= 0.5", least >= 0.5))
    change = min(run["exams"][-1]["skill"] - run["base_skill"] for run in runs)
    return [*goals, MustShow("skill against the base", change, ">= 0", change >= 0)]


def _beside_kto(runs: Sequence[Mapping[str, Any]]) -> MustShow:
    """The votes that lead as far as KTO came with all of its own, as a share of these; the worst run's."""
    shares = []
    for run in runs:
        theirs = run["kto"]
        there = [exam["votes"] for exam in run["exams"] if exam["way"] >= theirs["way"]]
        shares.append(there[0] / theirs["votes"] if there else None)
    worst = None if None in shares else max(share for share in shares if share is not None)
    met = worst is not None and worst <= BESIDE_KTO
    return MustShow(
        "votes that lead as far as KTO's best, of its own", worst, f"<= {BESIDE_KTO:g}", met
    )


def _recovered(runs: Sequence[Mapping[str, Any]]) -> MustShow:
    """The votes after the change until the way is as far as before, the slowest run's."""
    needed = []
    for run in runs:
        half = len(run["exams"]) // 2
        before, after = run["exams"][half - 1], run["exams"][half:]
        there = [e["votes"] - before["votes"] for e in after if e["way"] >= before["way"]]
        needed.append(there[0] if there else None)
    slowest = None if None in needed else max(n for n in needed if n is not None)
    met = slowest is not None and slowest <= 1000
    return MustShow("votes to recover after tastes changed", slowest, "<= 1,000", met)


if __name__ == "__main__":
    typer.run(main)
