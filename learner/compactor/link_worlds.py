"""Simulated logs of names that stand for one another, strewn into filler: who reads them must follow links.

A value is stored under a name, another name is said to stand for that one, and so on; the question names
the value alone. Nearly everything else is made up anew for each world, the filler's words too, so that what
is learned of it is to follow rare names and to pass over what merely shares common words with the question.
"""

from __future__ import annotations

from random import Random

from burnish.learner.compactor.world import LogBuilder, World, WorldQuestion, rough_count

STEPS = (60, 500)
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
COMMON = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "was",
    "with",
    "for",
    "some",
    "many",
    "notes",
    "text",
    "value",
    "name",
    "most",
    "that",
    "go",
    "stand",
    "way",
    "day",
]
STORED = (
    "{name} holds {value}.",
    "key {name}: {value}",
    "{name} was given the code {value}.",
    "store {value} under {name}",
    "The content of {name} is {value}.",
)
LINKED = (
    "{name} is another name for {other}.",
    "{name} now points to {other}.",
    "alias {name} => {other}",
    "The key {name} was copied from {other}.",
    "link {name}: {other}",
    "Use {other} wherever {name} is meant.",
    "{name} inherits everything from {other}.",
    "mount {other} at {name}",
    "{name} stands inside {other}.",
)
ASKED = (
    "Which of them lead to {value} in the end?",
    "List every name that stands for {value}.",
    "What was derived from {value}, directly or not?",
    "Find all that go back to {value} in these notes.",
    "Where does {value} turn up, whatever it is called there?",
)


def make_links(seed: int) -> World:
    """Some chains of names, of which every value is asked for; all of a chain is evidence."""
    rng = Random(f"links/{seed}")
    filler = _Filler(rng)
    chains, links = rng.randrange(2, 6), rng.randrange(1, 5)
    names = [[_name(rng) for _ in range(links + 1)] for _ in range(chains)]
    values = [_value(rng) for _ in range(chains)]
    told = _statements(rng, names, values)
    steps = rng.randrange(*STEPS)
    places = dict(zip(sorted(rng.sample(range(steps), len(told))), told, strict=True))

    log = LogBuilder(rng, rough_count)
    log.say("system", "Keep what is said in mind.")
    log.say("user", "Notes follow.", kind="task")
    evidence: list[list[int]] = [[] for _ in range(chains)]
    for step in range(steps):
        if step not in places:
            log.say(rng.choice(("user", "assistant")), filler.text())
            continue
        chain, text = places[step]
        beside = f" {filler.sentence()}" if rng.random() < 0.3 else ""
        evidence[chain].append(log.say("user", text + beside))
    questions = [
        WorldQuestion("links", rng.choice(ASKED).format(value=value), "", tuple(places))
        for value, places in zip(values, evidence, strict=True)
    ]
    return World(seed, tuple(log.steps), tuple(questions))


def _statements(rng: Random, names: list[list[str]], values: list[str]) -> list[tuple[int, str]]:
    """What is said of which chain: chains interleaved, each in its own order."""
    stored = rng.choice(STORED)
    linked = [rng.choice(LINKED)] if rng.random() < 0.6 else LINKED  # one program, or people
    order = [chain for chain, of in enumerate(names) for _ in of]
    rng.shuffle(order)
    done, told = [0] * len(names), []
    for chain in order:
        at, done[chain] = done[chain], done[chain] + 1
        name = names[chain][at]
        if at == 0:
            told.append((chain, stored.format(name=name, value=values[chain])))
        else:
            told.append((chain, rng.choice(linked).format(name=name, other=names[chain][at - 1])))
    return told


class _Filler:
    """Sentences of a world's own words, said over and over."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        words = [_word(rng, rng.randrange(2, 4)) for _ in range(rng.randrange(20, 120))]
        self._sentences = [self._made(words) for _ in range(rng.randrange(4, 40))]

    def sentence(self) -> str:
        return self._rng.choice(self._sentences)

    def text(self) -> str:
        return " ".join(self._rng.choices(self._sentences, k=self._rng.randrange(1, 9)))

    def _made(self, words: list[str]) -> str:
        rng = self._rng
        drawn = [
            rng.choice(words if rng.random() < 0.6 else COMMON) for _ in range(rng.randrange(5, 18))
        ]
        return f"{' '.join(drawn).capitalize()}."


def _word(rng: Random, syllables: int) -> str:
    return "".join(rng.choices(SYLLABLES, k=syllables))


def _name(rng: Random) -> str:
    word = _word(rng, 3)
    return word.upper() if rng.random() < 0.5 else f"{word}-{rng.randrange(100)}"


def _value(rng: Random) -> str:
    return str(rng.randrange(1000, 99999)) if rng.random() < 0.6 else _word(rng, 4)
