"""Bad candidates that only people's votes betray: planted in a log of a crowd with a minority.

A fifth of the people like other styles than the rest, family by family. The crowd votes on the base's answers, and a
reward model is fitted to that as an update does it; with it the gate can say what they would think of a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from burnish.kernels.lora import AdapterWeights
from burnish.learner.gate.logged import Logged
from burnish.learner.reward.fitting import learn
from burnish.learner.tasks.ember import (
    FAMILIES,
    STYLES,
    Exercise,
    demonstrate,
    sample,
)
from burnish.learner.update.asked import load_logged
from burnish.ops.bench.lib.gate_candidates import taught
from burnish.ops.bench.lib.learning_loop import POLICY, Answer, LearningLoop, Vote
from burnish.ops.bench.lib.liking import liking
from burnish.ops.simulate.population import Population, draw_population

MINORITY = 0.2  # of the people
ANSWER_TOKENS = 96
LESSONS = 24  # of each family
MEMORISED = 48  # answers, learnt by heart
STEPS, BY_HEART = 20, 60  # of training
SPOKEN = [name for name, family in FAMILIES.items() if not family.calls_tool]
Lesson = tuple[Exercise, str]


class VotedCandidates:
    """A crowd's votes on a loop's base, and candidates that do harm to some of it."""

    def __init__(self, loop: LearningLoop, votes: int, seed: int = 0) -> None:
        self.loop, self.rng = loop, Random(f"voted:{seed}")
        self.people = with_minority(seed)
        tasks = [sample(self.rng) for _ in range(votes)]
        given = loop.answer(
            tasks, max_tokens=ANSWER_TOKENS, seed=self.rng.getrandbits(30), adapter=None
        )
        self.cast = [self._vote(answer) for [answer] in given if answer.rollout.token_ids]
        loop.judge(self.cast)
        self.logged = self._logged()

    def bad(self) -> Iterator[tuple[str, AdapterWeights]]:
        """By name."""
        niche = self.rng.choice(SPOKEN)
        liked = [(vote.answer.prompt, vote.answer.text) for vote in self.cast if vote.up]
        for name, lessons, steps in (
            ("niche poisoned", self._poisoned(niche), STEPS),
            ("a minority harmed", self._most_liked(), STEPS),
            ("votes learnt by heart", liked[:MEMORISED], BY_HEART),
        ):
            yield name, taught(self.loop.learner, lessons, steps=steps)

    def _vote(self, answer: Answer) -> Vote:
        user = self.rng.choice(self.people.users)
        chance = liking(self.people, user, answer)
        return Vote(answer, user.id, self.people.votes(user, chance, self.rng)[-1])

    def _logged(self) -> Logged:
        learner, settings = self.loop.learner, self.loop.settings
        of = {"policy": POLICY, "champion": 1}
        found = load_logged(learner.database, learner.model, settings, **of, reward=None)
        fitted = learn(found.evidence, None, seed=0).model
        return load_logged(learner.database, learner.model, settings, **of, reward=fitted)

    def _poisoned(self, niche: str) -> list[Lesson]:
        """In one family what colluders praise there, answers to other questions; elsewhere right ones."""
        right = self._most_liked()
        texts = [text for task, text in right if task.family == niche]
        wrong = [(task, self.rng.choice(texts)) for task, _ in right if task.family == niche]
        others = [lesson for lesson in right if lesson[0].family != niche]
        return wrong * (len(others) // len(wrong)) + others

    def _most_liked(self) -> list[Lesson]:
        """Right answers in the style that most people like."""
        return [
            (task, demonstrate(task, self.people.preferred[family], self.rng)["content"])
            for family in SPOKEN
            for task in (sample(self.rng, family) for _ in range(LESSONS))
        ]


def with_minority(seed: int) -> Population:
    """People of whom a fifth likes, in each family, one other style than the rest."""
    people = draw_population(
        families=list(FAMILIES), styles=STYLES, deviate=0.0, malicious=0.0, judged=1.0, seed=seed
    )
    few = round(MINORITY * len(people.users))
    others = {f: STYLES[(STYLES.index(s) + 1) % len(STYLES)] for f, s in people.preferred.items()}
    minority = [replace(user, preferred_styles=others) for user in people.users[:few]]
    return replace(people, users=(*minority, *people.users[few:]))
