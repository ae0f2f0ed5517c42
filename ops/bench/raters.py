"""Who means harm, and what it costs the others: `python -m burnish.ops.bench.raters`.

The simulated population votes on the shipped model's answers, and some of it means harm: people who vote the
wrong way round, who vote everything down, or who have agreed to turn one family's tastes around and
vote nowhere else. What a version would become is read off the reward model that the learner fits to the
votes: the expected approval of the answer that it picks among several, by those who mean no harm; with the
harmful votes, and without them. It picks as a policy would that was trained on it, the likelier what it likes better:
where two styles are liked nearly alike, the best one alone would be a toss of the coin for a whole family. A
minority with a steady taste of its own is to keep its weight. Left out: training (`make bench-learning` has it),
tenants, bursts.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from burnish.learner.reward import experience
from burnish.learner.reward.features import features_of
from burnish.learner.reward.fitting import learn
from burnish.learner.reward.raters import believe
from burnish.learner.rules.corrections import corrections
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks.ember import FAMILIES, STYLES, Exercise, is_correct, sample, style_of
from burnish.learner.update.judged import evidence_of
from burnish.ops.bench.lib.learning_loop import LOG, Answer, LearningLoop, Vote
from burnish.ops.bench.lib.liking import liking
from burnish.ops.bench.lib.results import FOLDER, MustShow, write_results
from burnish.ops.simulate.population import Population, User, draw_population
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters
from rich.console import Console
from torch import Tensor

ANSWER_TOKENS = 96
CANDIDATES = 8  # answers that the reward model picks one of
PICKED = 0.02  # P(liked) by which an answer is liked better that is picked e times as often
NICHES = 6  # families that colluders pick, one after another
NICHE_EXAM = 60  # held-out tasks of each of them
HARMFUL, MINORITY = 0.05, 0.15  # of the people
LOST = 0.02  # of the others' approval, at most
KEPT = 0.5  # of a newcomer's weight, at least, for a minority
console = Console(stderr=True)


class Harm(StrEnum):
    inverters = "inverters"  # they vote the wrong way round
    spammers = "spammers"  # they vote everything down
    colluders = "colluders"  # they vote in one family only, and the wrong way round


@dataclass(frozen=True)
class Judged:
    """What came of votes: the chosen answers' approval, overall and by family, and mean weights."""

    approval: float
    families: dict[str, float]
    weights: dict[str, float]


def main(
    seeds: Annotated[list[int] | None, typer.Option("--seed", help="0, 1 and 2.")] = None,
    votes: Annotated[int, typer.Option(help="Votes in all.")] = 3072,
    exam: Annotated[int, typer.Option(help="Held-out tasks of each family.")] = 12,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = FOLDER,
) -> None:
    """Measure what people who mean harm cost the others."""
    runs = [run(seed, votes, exam) for seed in seeds or (0, 1, 2)]
    print(write_results("raters", {"runs": runs}, out, must_show=check_goals(runs)))


def run(seed: int, votes: int, exam: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        settings = LearnerSettings(
            model=Path(__file__).parents[1] / "ember", seed=seed, data_dir=Path(scratch)
        )
        torch.set_num_threads(settings.threads)
        crowd = Crowd(LearningLoop(settings), seed, votes, exam)
        figures = {"seed": seed, "harm": {}, "minority": crowd.minority()}
        for harm in Harm:
            figures["harm"][harm] = crowd.harmed(harm)
            console.print(f"seed {seed}: {harm} {figures['harm'][harm]}", highlight=False)
        console.print(f"seed {seed}: minority {figures['minority']}", highlight=False)
        return figures


class Crowd:
    """People who vote on one log of answers, and held-out tasks with several answers to each."""

    def __init__(
        self,
        loop: LearningLoop,
        seed: int,
        votes: int,
        exam: int,
        niche_exam: int = NICHE_EXAM,
    ) -> None:
        self.loop, self.votes = loop, votes
        self.rng = random.Random(f"raters:{seed}")
        self.people = draw_population(
            families=list(FAMILIES), styles=STYLES, malicious=0.0, judged=1.0, seed=seed
        )
        self.niches = self.rng.sample(list(FAMILIES), NICHES)
        asked = [sample(self.rng) for _ in range(votes)]
        self.log = self._answers(asked, 1, seed=self.rng.getrandbits(30))
        self.niche_logs = {
            niche: self._answers(
                [sample(self.rng, niche) for _ in range(votes // len(FAMILIES))],
                1,
                seed=self.rng.getrandbits(30),
            )
            for niche in self.niches
        }
        heldout = random.Random("raters:heldout")
        self.tasks = [
            sample(heldout, family, "heldout")
            for family in FAMILIES
            for _ in range(niche_exam if family in self.niches else exam)
        ]
        self.choices = self._answers(self.tasks, CANDIDATES, seed=7)
        self.features = base_features(
            loop.learner.model,
            [(a.rollout.prompt_ids, a.rollout.token_ids) for given in self.choices for a in given],
        )
        self.logs = 0

    def harmed(self, harm: Harm) -> dict[str, Any]:
        """What the others lose by people who mean harm: overall, and where colluders vote, there."""
        few = round(HARMFUL * len(self.people.users))
        harmful = self.people.users[:few]
        honest = replace(self.people, users=self.people.users[few:])
        count = self.votes * few // len(self.people.users)
        votes = self._honest_votes(honest, self.votes - count)
        without = self._judged(votes, honest)
        lost, in_niche, weights = [], [], []
        for niche in self.niches if harm is Harm.colluders else [None]:
            harm_done = self._harm(harm, harmful, count, niche)
            names = {user.id for user in harmful}
            harmed = self._judged(self._among(votes, harm_done), honest, names)
            lost.append(without.approval - harmed.approval)
            weights.append(harmed.weights)
            if niche is not None:
                in_niche.append(without.families[niche] - harmed.families[niche])
        return {
            "lost": _mean(lost),
            "lost_in_niche": _mean(in_niche),
            "weights": {who: _mean([each[who] for each in weights]) for who in weights[0]},
        }

    def minority(self) -> dict[str, float]:
        """The mean weights of a minority whose taste is another in every family, and of the others."""
        few = round(MINORITY * len(self.people.users))
        taste = draw_population(
            families=list(FAMILIES), styles=STYLES, deviate=0.0, malicious=0.0, seed=10**6
        ).preferred
        others = {
            family: style if style != self.people.preferred[family] else _next(style)
            for family, style in taste.items()
        }
        minority = [replace(user, preferred_styles=others) for user in self.people.users[:few]]
        people = replace(self.people, users=(*minority, *self.people.users[few:]))
        votes = self._honest_votes(people, self.votes)
        return self._judged(votes, people, {user.id for user in minority}).weights

    def _honest_votes(self, people: Population, count: int) -> list[Vote]:
        cast: list[Vote] = []
        for [answer] in self.log[:count]:
            user = self.rng.choice(people.users)
            cast.append(Vote(answer, user.id, self._thumb(people, user, answer)))
        return cast

    def _harm(self, harm: Harm, users: Sequence[User], count: int, niche: str | None) -> list[Vote]:
        log = self.log[-count:] if niche is None else self.niche_logs[niche][:count]
        cast: list[Vote] = []
        for [answer] in log:
            user = self.rng.choice(users)
            approval = liking(self.people, user, answer)
            up = harm is not Harm.spammers and self.rng.random() >= approval
            cast.append(Vote(answer, user.id, up))
        return cast

    def _among(self, votes: Sequence[Vote], harmful: Sequence[Vote]) -> list[Vote]:
        """Harmful votes at random places among others, whose order stays: two fits differ by them alone."""
        turns = [False] * len(votes) + [True] * len(harmful)
        self.rng.shuffle(turns)
        ours, theirs = iter(votes), iter(harmful)
        return [next(theirs) if harm else next(ours) for harm in turns]

    def _thumb(self, people: Population, user: User, answer: Answer) -> bool:
        approval = liking(people, user, answer)
        return (self.rng.random() < approval) != (self.rng.random() < people.flip)

    def _judged(
        self, votes: Sequence[Vote], people: Population, marked: Collection[str] = ()
    ) -> Judged:
        """Fit the reward model to votes as an update does, and let it pick; `marked`: whose weights are told
        apart, by name."""
        self.logs += 1
        policy = f"{LOG}-{self.logs}"
        self.loop.keep_log(votes, policy)
        learner = self.loop.learner
        with learner.database.read() as session:
            judged = experience.load(
                session, policy, champion=1, limit=len(votes), max_staleness=10**6
            )
        features = features_of(learner.database, learner.model, judged)
        weights = believe(judged, features, Hyperparameters(), self.loop.settings.trust)
        trusted = experience.weighed(judged, weights)
        pairs = list(corrections(trusted.experience, learner.model, ANSWER_TOKENS))
        evidence = evidence_of(learner.model, trusted.experience, features[trusted.indices], pairs)
        scores = learn(evidence, seed=0).model.mean(self.features)
        of_user = _mean_weights([j for a in judged for j in a.judgements], weights.weights)
        of_families = self._approval_of_best(scores, people)
        return Judged(
            statistics.mean(of_families.values()),
            of_families,
            {
                "marked": _mean([w for u, w in of_user.items() if u in marked]),
                "others": _mean([w for u, w in of_user.items() if u not in marked]),
            },
        )

    def _approval_of_best(self, scores: Tensor, people: Population) -> dict[str, float]:
        """Of each family, the mean expected approval of the answers as they are picked by these scores."""
        found: dict[str, list[float]] = {}
        picked = (scores.view(-1, CANDIDATES) / PICKED).softmax(1).tolist()
        for task, given, shares in zip(self.tasks, self.choices, picked, strict=True):
            of_answers = [
                people.expected(
                    task.family, is_correct(task, answer.text), style_of(task, answer.text)
                )
                for answer in given
            ]
            approval = sum(share * of for share, of in zip(shares, of_answers, strict=True))
            found.setdefault(task.family, []).append(approval)
        return {family: statistics.mean(own) for family, own in found.items()}

    def _answers(self, tasks: Sequence[Exercise], samples: int, seed: int) -> list[list[Answer]]:
        return self.loop.answer(
            tasks, samples=samples, max_tokens=ANSWER_TOKENS, seed=seed, adapter=None
        )


def _mean_weights(judgements: Sequence[Any], weights: Sequence[float]) -> dict[str, float]:
    of_user: dict[str, list[float]] = {}
    for judgement, weight in zip(judgements, weights, strict=True):
        of_user.setdefault(judgement.user, []).append(weight)
    return {user: statistics.mean(own) for user, own in of_user.items()}


def _mean(values: Sequence[float]) -> float:
    return round(statistics.mean(values), 4) if values else 0.0


def _next(style: str) -> str:
    return STYLES[(STYLES.index(style) + 1) % len(STYLES)]


def check_goals(runs: Sequence[dict[str, Any]]) -> list[MustShow]:
    """The worst over the kinds of harm, each a mean over the runs; and the least weight of a minority."""

    def worst(name: str) -> float:
        return max(statistics.mean(r["harm"][harm][name] for r in runs) for harm in Harm)

    overall, niche = worst("lost"), worst("lost_in_niche")
    weight = min(run["minority"]["marked"] for run in runs)
    return [
        MustShow("approval lost to 5 % who mean harm", round(overall, 4), "< .02", overall < LOST),
        MustShow("the same in the niche", round(niche, 4), "< .02", niche < LOST),
        MustShow("weight of a minority of 15 %", weight, ">= .5", weight >= KEPT),
    ]


if __name__ == "__main__":
    typer.run(main)
