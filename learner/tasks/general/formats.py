"""Instructions about the form of an answer, which a program can check, and answers as JSON."""

from __future__ import annotations

import re
from random import Random

from burnish.learner.tasks import checks
from burnish.learner.tasks.general.words import CITIES, COLOURS, KEYWORDS, NAMES, THINGS, TOPICS
from burnish.learner.tasks.task import Check, Task

_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)


def _task(prompt: str, check: Check) -> Task:
    return Task("", ({"role": "user", "content": prompt},), check)


def _topic(rng: Random) -> str:
    return (
        f"{rng.choice(TOPICS)} in {rng.choice(CITIES)}"
        if rng.random() < 0.8
        else rng.choice(TOPICS)
    )


def word_limits(rng: Random, level: int) -> Task:
    """At most so many words, and at least three: the tighter, the harder."""
    most = rng.randint(*((25, 40), (12, 24), (6, 11))[level - 1])
    topic = _topic(rng)
    asked = f"Describe {topic} in at most {most} words."
    return _task(asked, lambda answer: 3 <= len(answer.split()) <= most)


def keywords(rng: Random, level: int) -> Task:
    """A sentence that must contain certain words."""
    words = rng.sample(KEYWORDS, level)
    listed = " and ".join(f'"{word}"' for word in words)
    plural = "s" if words[1:] else ""
    asked = f"Write one sentence about {_topic(rng)} with the word{plural} {listed} in it."
    return _task(asked, checks.contains(words))


def letter_case(rng: Random, level: int) -> Task:
    """All capitals, or none."""
    upper = rng.random() < 0.5
    case = "capital letters only" if upper else "lower case letters only, with no capital letter"
    length = ("one short sentence", "two sentences", "three sentences")[level - 1]
    asked = f"Write {length} about {_topic(rng)}, in {case}."

    def check(answer: str) -> bool:
        letters = any(c.isalpha() for c in answer)
        return letters and answer == (answer.upper() if upper else answer.lower())

    return _task(asked, check)


def bullets(rng: Random, level: int) -> Task:
    """A list of exactly so many points."""
    many = rng.randint(2, 2 + 2 * level)
    kind = rng.choice(("things to see in", "reasons to visit", "gifts to bring home from"))
    asked = (
        f"Give me {many} {kind} {rng.choice(CITIES)} as a list of exactly {many} bullet points, each"
        " on its own line and a few words long."
    )
    return _task(asked, lambda answer: len(_BULLET.findall(answer)) == many)


def without_commas(rng: Random, level: int) -> Task:
    """No comma, in so many words at least."""
    least = (5, 12, 20)[level - 1]
    topic = _topic(rng)
    form = rng.choice(("Describe {} ", "Write about {} ", "Tell me about {} "))
    asked = f"{form.format(topic)}in at least {least} words, without using any comma."
    return _task(asked, lambda answer: "," not in answer and len(answer.split()) >= least)


def endings(rng: Random, level: int) -> Task:
    """An answer that must end in certain words."""
    ending = rng.choice(("That is all.", "Thank you for reading.", "What do you think?"))
    length = ("one sentence", "two sentences", "three sentences")[level - 1]
    asked = f'Write {length} about {_topic(rng)}. Your answer must end with: "{ending}"'
    return _task(asked, lambda answer: answer.rstrip().rstrip('"').rstrip().endswith(ending))


def yes_or_no(rng: Random, level: int) -> Task:
    """One word for an answer: yes or no."""
    a, b = rng.sample(range(2, (20, 100, 1000)[level - 1]), 2)
    relation = rng.choice(("larger", "smaller"))
    right = "yes" if (a > b) == (relation == "larger") else "no"
    asked = f"Is {a} {relation} than {b}? Answer with yes or no only."
    return _task(asked, lambda answer: answer.strip(" \n.!\"'*").casefold() == right)


def copying(rng: Random, level: int) -> Task:
    """Repeating a text word by word."""
    name, colour, city = rng.choice(NAMES), rng.choice(COLOURS), rng.choice(CITIES)
    text = f"{name} keeps a {colour} box in {city}"
    text += ("", f" with {rng.randint(3, 99)} {rng.choice(THINGS)}", "")[level - 1]
    if level == 3:
        code = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(6))
        text += f" behind the door marked {code}"
    asked = f"Repeat this sentence exactly, and write nothing else: {text}."

    def check(answer: str) -> bool:
        return " ".join(answer.split()).strip("\"' ").rstrip(".") == text

    return _task(asked, check)


def reading(rng: Random, level: int) -> Task:
    """A fact that stands in the prompt, among others at higher levels."""
    people = rng.sample(NAMES, 1 + level)
    facts = [(name, rng.choice(COLOURS), rng.choice(CITIES)) for name in people]
    told = " ".join(
        f"{name} lives in {city} and has a {colour} car." for name, colour, city in facts
    )
    name, colour, city = rng.choice(facts)
    asked, right = rng.choice(
        ((f"Which colour is {name}'s car?", colour), (f"Where does {name} live?", city))
    )
    others = {value for fact in facts for value in fact[1:]} - {right, colour, city}

    def check(answer: str) -> bool:
        said = answer.casefold()
        return right.casefold() in said and not any(o.casefold() in said for o in others)

    return _task(f"{told} {asked} Answer in a few words.", check)


def json_objects(rng: Random, level: int) -> Task:
    """Facts of a sentence as a JSON object with certain keys."""
    name, age, city = rng.choice(NAMES), rng.randint(18, 80), rng.choice(CITIES)
    colour = rng.choice(COLOURS)
    keys = {"name": name, "age": age, "city": city, "colour": colour}
    wanted = dict(list(keys.items())[: 1 + level])
    told = f"{name} is {age} years old and lives in {city}. {name}'s favourite colour is {colour}."
    listed = ", ".join(f'"{key}"' for key in wanted)
    properties = {key: {"enum": [value, str(value)]} for key, value in wanted.items()}
    shape = {"type": "object", "properties": properties, "required": list(wanted)}
    return _task(
        f"{told} Write this as a JSON object with the keys {listed}.", checks.schema(shape)
    )


GENERATORS = {
    "word_limits": word_limits,
    "keywords": keywords,
    "letter_case": letter_case,
    "bullets": bullets,
    "without_commas": without_commas,
    "endings": endings,
    "yes_or_no": yes_or_no,
    "copying": copying,
    "reading": reading,
    "json_objects": json_objects,
}
