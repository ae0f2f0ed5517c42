"""Simulated worlds: the log of a long-running agent, and questions whose answers are known.

A world is drawn from a seed: services whose settings change (state and supersession), credentials
that rotate, attempts that failed, tickets to be counted, people who look after services (two and
three hops), test runs and files read by tools, and far more noise than facts, which names the same
things. Steps are memory's own, with tool calls paired to their results. Left out: the questions
(world_questions.py), RULER-style logs (ruler_worlds.py) and reading (reader.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from burnish.learner.compactor import phrases, vocabulary
from burnish.learner.compactor.vocabulary import names
from burnish.learner.compactor.world import Count, LogBuilder, World, rough_count
from burnish.learner.compactor.world_questions import QuestionMaker, WorldState

HORIZON = 130  # events of a training world; held-out horizons go to ten times that


class _WorldBuilder:
    """One world while its log grows."""

    def __init__(self, seed: int, split: str, horizon: int, count: Count) -> None:
        self.rng = rng = Random(f"{split}/{seed}/{horizon}")
        self.seed, self.split, self.horizon = seed, split, horizon
        self.log = LogBuilder(rng, count)
        scale = max(1, horizon // HORIZON)

        def draw(table: Mapping[str, str], n: int) -> list[str]:
            known = names(table, split)
            many = [name if i == 0 else f"{name}-{i + 1}" for i in range(10) for name in known]
            return rng.sample(many, min(n * scale, len(many)))

        self.services, self.people = draw(vocabulary.SERVICES, 7), draw(vocabulary.PEOPLE, 8)
        self.customers, self.tasks = draw(vocabulary.CUSTOMERS, 4), draw(vocabulary.TASKS, 4)
        self.suites = draw(vocabulary.SUITES, 3)
        self.attrs = rng.sample(names(vocabulary.ATTRS, split), 5)
        self.approaches = names(vocabulary.APPROACHES, split)
        self.files = [names(vocabulary.FILES, split)[0].format(s) for s in self.services]
        self.keys = names(vocabulary.KEYS, split)
        self.state = WorldState(self.people, self.attrs)

    # -- words ---------------------------------------------------------------------------------

    def value(self) -> str:
        rng = self.rng
        return rng.choice(
            (
                lambda: str(rng.randrange(1000, 99999)),
                lambda: f"{rng.choice('abcdefgh')}{rng.randrange(16**5):05x}",
                lambda: f"v{rng.randrange(9)}.{rng.randrange(40)}.{rng.randrange(40)}",
                lambda: (
                    f"{rng.choice(('eu', 'us', 'ap'))}-{rng.choice(('west', 'east', 'south'))}"
                    f"-{rng.randrange(100)}"
                ),
            )
        )()

    def noise(self) -> str:
        rng = self.rng
        return rng.choice(phrases.NOISE[self.split]).format(
            **self.names(), task=rng.choice(self.tasks), approach=rng.choice(self.approaches)
        )

    def names(self) -> dict[str, str]:
        rng = self.rng
        return {
            "entity": rng.choice(self.services),
            "other": rng.choice(self.services),
            "attr": rng.choice(self.attrs),
            "person": rng.choice(self.people),
            "customer": rng.choice(self.customers),
        }

    def fact(self, kind: str, **slots: str) -> str:
        return self.rng.choice(phrases.facts(self.split, kind)).fill(slots)

    def log_lines(self, n: int) -> list[str]:
        rng, lines = self.rng, []
        for _ in range(n):
            time = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
            line = rng.choice(phrases.LOG_LINES[self.split])
            more = {"time": time, "n": rng.randrange(999), "id": f"r{rng.randrange(16**6):06x}"}
            lines.append(line.format(**self.names(), **more))
        return lines

    # -- events --------------------------------------------------------------------------------

    def tell(self, fact: str, role: str = "user") -> int:
        """State a fact in a message, sometimes between other sentences; the step's place."""
        parts = [fact]
        if self.rng.random() < 0.3:
            parts.insert(0, self.noise())
        if self.rng.random() < 0.3:
            parts.append(self.noise())
        return self.log.say(role, " ".join(parts))

    def change_state(self) -> None:
        key = (self.rng.choice(self.services), self.rng.choice(self.attrs))
        value = self.value()
        place = self.tell(
            self.fact("state", entity=key[0], attr=key[1], value=value),
            self.rng.choice(("user", "user", "assistant")),
        )
        self.state.settings.setdefault(key, []).append((value, place))

    def change_secret(self) -> None:
        entity = self.rng.choice(self.services)
        value = f"sk-{self.rng.randrange(16**10):010x}"
        self.state.secrets[entity] = (
            value,
            self.tell(self.fact("secret", entity=entity, value=value)),
        )

    def change_owner(self) -> None:
        person, entity = self.rng.choice(self.people), self.rng.choice(self.services)
        place = self.tell(self.fact("owner", person=person, entity=entity))
        self.state.owns[person] = entity, place

    def change_boss(self) -> None:
        person, boss = self.rng.sample(self.people, 2)
        self.state.boss[person] = boss, self.tell(self.fact("boss", person=person, boss=boss))

    def fail(self) -> None:
        task, approach = self.rng.choice(self.tasks), self.rng.choice(self.approaches)
        line = self.fact("failed", task=task, approach=approach)
        lines = self.log_lines(self.rng.choice((0, 3, 12, 25)))
        place = self.log.call("shell", f"try {len(self.log.steps)}", "\n".join([*lines, line]))
        self.state.failed.setdefault(task, {}).setdefault(approach, place)

    def close_ticket(self) -> None:
        customer, ticket = self.rng.choice(self.customers), f"T-{self.rng.randrange(10**5)}"
        place = self.tell(self.fact("event", customer=customer, id=ticket), "assistant")
        self.state.closed.setdefault(customer, {}).setdefault(ticket, place)

    def run_tests(self) -> None:
        suite, failed = self.rng.choice(self.suites), str(self.rng.randrange(90))
        line = self.fact("tests", suite=suite, failed=failed, passed=str(self.rng.randrange(900)))
        lines = self.log_lines(self.rng.randrange(8, 40))
        place = self.log.call("shell", "run tests", "\n".join([*lines, line]))
        self.state.tests[suite] = failed, place

    def read_file(self) -> None:
        file = self.rng.choice(self.files)
        keys = self.rng.sample(self.keys, self.rng.randrange(4, len(self.keys) + 1))
        lines = [self.fact("file", file=file), "[main]"]
        values = {key: self.value() for key in keys}
        for key, value in values.items():
            lines += ["# " + line for line in self.log_lines(self.rng.choice((0, 0, 1, 3)))]
            lines.append(self.fact("entry", key=key, value=value))
        place = self.log.call("shell", "read file", "\n".join(lines))
        self.state.entries.update({(file, key): (value, place) for key, value in values.items()})

    def make_noise(self) -> None:
        if self.rng.random() < 0.5:
            lines = self.log_lines(self.rng.randrange(5, 45))
            self.log.call("shell", "tail the log", "\n".join(lines))
        else:
            role = self.rng.choice(("user", "assistant", "assistant"))
            self.log.say(role, " ".join(self.noise() for _ in range(self.rng.randrange(1, 4))))

    def run(self, questions: int) -> World:
        self.log.say("system", "You keep a fleet of services running and report what you do.")
        self.log.say("user", "Work through the queue; I will ask you things later.", kind="task")
        events = {
            self.make_noise: 45,
            self.change_state: 20,
            self.change_secret: 4,
            self.change_owner: 6,
            self.change_boss: 5,
            self.fail: 7,
            self.close_ticket: 8,
            self.run_tests: 4,
            self.read_file: 4,
        }
        for event in self.rng.choices([*events], [*events.values()], k=self.horizon):
            event()
        drawn = QuestionMaker(self.state, self.rng, self.split).draw(questions)
        return World(self.seed, tuple(self.log.steps), tuple(drawn))


def make_world(
    seed: int,
    split: str = "train",
    *,
    horizon: int = HORIZON,
    questions: int = 12,
    count: Count = rough_count,
) -> World:
    """A world of `horizon` events. `split`: "train", or "heldout" for words never trained on."""
    if split not in vocabulary.SPLITS:
        raise ValueError(f"split must be one of {', '.join(vocabulary.SPLITS)}, not {split!r}")
    return _WorldBuilder(seed, split, horizon, count).run(questions)
