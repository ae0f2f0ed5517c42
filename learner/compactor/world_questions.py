"""Questions about a generated world, each with its one right answer and the steps that state it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from burnish.learner.compactor import phrases
from burnish.learner.compactor.world import WorldQuestion

MAX_FAILED = 8  # approaches in one answer
MAX_CLOSED = 12  # tickets to be counted for one answer
Stated = tuple[str, int]  # a value, and the place of the step that states it


@dataclass
class WorldState:
    """What holds in a world now, or held before, and which steps said so."""

    people: Sequence[str]
    attrs: Sequence[str]
    settings: dict[tuple[str, str], list[Stated]] = field(default_factory=dict)  # (service, attr)
    secrets: dict[str, Stated] = field(default_factory=dict)  # service -> credential
    failed: dict[str, dict[str, int]] = field(default_factory=dict)  # task -> approach -> step
    closed: dict[str, dict[str, int]] = field(default_factory=dict)  # customer -> ticket -> step
    owns: dict[str, Stated] = field(default_factory=dict)  # person -> service
    boss: dict[str, Stated] = field(default_factory=dict)  # person -> person
    tests: dict[str, Stated] = field(default_factory=dict)  # suite -> failures
    entries: dict[tuple[str, str], Stated] = field(default_factory=dict)  # (file, key) -> value


class QuestionMaker:
    """Draws questions of all kinds from a world's state; wordings come from `split`."""

    def __init__(self, state: WorldState, rng: Random, split: str) -> None:
        self._state, self._rng, self._split = state, rng, split

    def draw(self, n: int) -> list[WorldQuestion]:
        """Up to `n` different questions, every kind about as often as the others."""
        pools = {kind: list(self._pool(kind)) for kind in phrases.QUESTION_KINDS}
        for pool in pools.values():
            self._rng.shuffle(pool)
        drawn: list[WorldQuestion] = []
        while len(drawn) < n and any(pools.values()):
            kinds = [kind for kind, pool in pools.items() if pool]
            self._rng.shuffle(kinds)
            drawn += [pools[kind].pop()() for kind in kinds[: n - len(drawn)]]
        return drawn

    def _pool(self, kind: str) -> Iterator[Callable[[], WorldQuestion]]:
        """All questions of a kind, not yet worded."""
        state = self._state
        match kind:
            case "state" | "before":
                for (entity, attr), history in state.settings.items():
                    slots = {"entity": entity, "attr": attr}
                    if kind == "state":
                        yield self._about(kind, slots, history[-1])
                    elif len(history) > 1:
                        answer, _ = history[-2]
                        evidence = [place for _, place in history[-2:]]
                        yield partial(self._question, kind, slots, answer, evidence)
            case "secret":
                for entity, stated in state.secrets.items():
                    yield self._about(kind, {"entity": entity}, stated)
            case "failed":
                for task, tried in state.failed.items():
                    if len(tried) <= MAX_FAILED:
                        answer, slots = ", ".join(sorted(tried)), {"task": task}
                        yield partial(self._question, kind, slots, answer, [*tried.values()])
            case "count":
                for customer, tickets in state.closed.items():
                    if len(tickets) <= MAX_CLOSED:
                        answer, slots = str(len(tickets)), {"customer": customer}
                        yield partial(self._question, kind, slots, answer, [*tickets.values()])
            case "tests":
                for suite, stated in state.tests.items():
                    yield self._about(kind, {"suite": suite}, stated)
            case "entry":
                for (file, key), stated in state.entries.items():
                    yield self._about(kind, {"file": file, "key": key}, stated)
            case _:
                yield from self._hops(kind)

    def _hops(self, kind: str) -> Iterator[Callable[[], WorldQuestion]]:
        """Questions that lead over a person, or over a person's manager, to a service."""
        state = self._state
        for person in state.people:
            places: list[int] = []
            owner = person
            if kind == "boss":
                if person not in state.boss:
                    continue
                owner, place = state.boss[person]
                places.append(place)
            if owner not in state.owns:
                continue
            entity, place = state.owns[owner]
            for attr in state.attrs:
                if history := state.settings.get((entity, attr)):
                    answer, last = history[-1]
                    slots = {"person": person, "attr": attr}
                    evidence = [*places, place, last]
                    yield partial(self._question, kind, slots, answer, evidence)

    def _about(
        self, kind: str, slots: Mapping[str, str], stated: Stated
    ) -> Callable[[], WorldQuestion]:
        answer, place = stated
        return partial(self._question, kind, slots, answer, [place])

    def _question(
        self, kind: str, slots: Mapping[str, str], answer: str, evidence: Sequence[int]
    ) -> WorldQuestion:
        text = self._rng.choice(phrases.questions(self._split, kind)).fill(slots)
        return WorldQuestion(kind, text, answer, tuple(sorted(set(evidence))))
