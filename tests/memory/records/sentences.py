"""Sentences made by rule, with the facts they state: to measure an extractor by.

Facts come in many wordings, some of which no pattern knows; distractors look like facts and are
none: questions, guesses, conditions, the past, other people's claims, chatter, logs, code.
`python -m tests.memory.records.sentences` prints precision, recall and what was missed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from burnish.memory.records.patterns import facts
from burnish.memory.records.record import normal

CITIES = ["Lisbon", "Porto", "São Paulo", "New York", "Kyoto", "Cape Town"]
NAMES = ["Ana", "Bruno", "Chioma", "Dmitri", "Eva"]
FOODS = ["green tea", "cilantro", "jazz", "long meetings", "dark mode", "tabs"]
FIRMS = ["Acme Corp", "Globex", "Initech", "the Lisbon Port Authority"]
THINGS = ["staging database", "deploy port", "retry limit", "build server", "release branch"]
DAYS = ["2026-03-01", "12 June", "Friday", "March 3rd"]
JOBS = ["nurse", "marine biologist", "data engineer", "carpenter"]


@dataclass(frozen=True)
class Labelled:
    """`values` are those of the facts it states, none for a distractor."""

    text: str
    values: tuple[str, ...] = ()


def made(rng: random.Random, count: int) -> Sequence[Labelled]:
    """Half facts, half distractors."""
    return [
        Labelled(*_fact(rng)) if rng.random() < 0.5 else Labelled(_distractor(rng))
        for _ in range(count)
    ]


def _fact(rng: random.Random) -> tuple[str, tuple[str, ...]]:
    city, name, food, firm = map(rng.choice, (CITIES, NAMES, FOODS, FIRMS))
    thing, day, job = map(rng.choice, (THINGS, DAYS, JOBS))
    code = f"{rng.choice('abcxyz')}{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}"
    number = str(rng.randrange(2, 9000))
    one: list[tuple[str, str]] = [
        (f"I live in {city}.", city),
        (f"Hi! I just moved to {city}, by the way.", city),
        (f"I'm based in {city}.", city),
        (f"These days I work at {firm}.", firm),
        (f"I work for {firm} now.", firm),
        (f"I'm a {job}.", job),
        (f"I work as a {job}.", job),
        (f"My name is {name}.", name),
        (f"Please call me {name}.", name),
        (f"My sister is called {name}.", name),
        (f"My dog's name is {name}.", name),
        (f"{name} lives in {city}.", city),
        (f"{name}'s birthday is {day}.", day),
        (f"My favourite food is {food}.", food),
        (f"Actually, my favorite city is now {city}.", city),
        (f"The {thing} is {code}.", code),
        (f"Our {thing} is now {code}, please use it.", code),
        (f"We changed the {thing} from {number} to {code}.", code),
        (f"The {thing} has been moved to {code}.", code),
        (f"The {thing} was set to {number}.", number),
        (f"{thing}: {code}", code),
        (f"- {thing} = {number}", number),
        (f"export {thing.replace(' ', '_').upper()}={code}", code),
        (f"Remember that the wifi password is {code}.", code),
        (f"My order number is {code}.", code),
        (f"The deadline for the report is {day}.", day),
        (f"The demo is on {day}.", day),
        (f"My account id is {code}.", code),
        (f"FYI the owner of the {thing} is {name}.", name),
        (f"Use {code} as the api key.", code),
        (f"From now on answer me in {rng.choice(['French', 'German'])}.", ""),
        (f"max_batch_size is {number}", number),
    ]
    opinions = [f"I love {food}.", f"I really hate {food}.", f"I prefer {food}."]
    if rng.random() < 0.15:
        return rng.choice(opinions), (food,)
    if rng.random() < 0.1:
        return f"I live in {city} and my email is {name.lower()}@{code}.org.", (
            city,
            f"{name.lower()}@{code}.org",
        )
    text, value = rng.choice(one)
    return text, (value or text.rsplit(" ", 1)[1].strip("."),)


def _distractor(rng: random.Random) -> str:
    city, name, food = map(rng.choice, (CITIES, NAMES, FOODS))
    thing, day = rng.choice(THINGS), rng.choice(DAYS)
    number = rng.randrange(2, 9000)
    return rng.choice(
        [
            f"Do I live in {city}?",
            f"What is the {thing}?",
            f"Is the {thing} {number}?",
            f"If the {thing} is {number}, restart it.",
            f"Maybe the {thing} is {number}.",
            f"I think my password is {number}.",
            f"I wish I lived in {city}.",
            f"I would love {food}.",
            f"I used to live in {city}.",
            f"The {thing} isn't {number}.",
            f"{name} said that the {thing} is {number}.",
            f"Imagine my name is {name}.",
            "The weather is nice today.",
            "The problem is that it hangs.",
            "It is what it is.",
            "This is fine.",
            "The code is broken.",
            "My head is spinning.",
            f"Could you summarise the trip to {city} on {day}?",
            f"Tell me about {city}.",
            "Thanks, that is great!",
            f"INFO: request {number} took 30 ms",
            "Note: see below.",
            f"https://example.org/{number}: moved",
            f"def price(x): return x * {number}",
            f"```\nport: {number}\n```",
            f"There are {number} reasons to visit {city}.",
            f"I'm a bit tired of {food}.",
            f"I like that {name} came.",
            f"For example, the {thing} is {number}.",
            f"She lives in {city}.",
            "The answer is no.",
            f"Let's meet {name} on {day} or later.",
            f"I was in {city} on {day}.",
            "My code is not working.",
            f"Write a poem about {food}.",
            f"Suppose {name} lives in {city}.",
        ]
    )


def measure(sentences: Sequence[Labelled]) -> tuple[float, float, list[str]]:
    """Precision, recall, and what was wrong, a line each."""
    right = claimed = stated = 0
    wrong: list[str] = []
    for sentence in sentences:
        found = list(facts(sentence.text))
        values = [normal(f"{fact.predicate} {fact.value}") for fact in found]
        hits = [v for v in sentence.values if any(normal(v) in value for value in values)]
        right += len(hits)
        claimed += len(found)
        stated += len(sentence.values)
        if len(hits) < len(sentence.values) or len(found) > len(hits):
            wrong.append(f"{sentence.text!r}: {[(f.subject, f.predicate, f.value) for f in found]}")
    return right / max(claimed, 1), right / max(stated, 1), wrong


if __name__ == "__main__":
    precision, recall, wrong = measure(made(random.Random(1), 4000))
    print(f"precision {precision:.3f}  recall {recall:.3f}")
    print("\n".join(sorted(set(wrong))[:40]))
