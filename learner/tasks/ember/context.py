"""Families about context: facts in the prompt, facts from earlier turns, and orderings."""

from itertools import pairwise
from random import Random

from burnish.learner.tasks.ember.bank import ANIMALS, CITIES, COLOURS, DAYS, ITEMS, NAMES, PLACES
from burnish.learner.tasks.ember.core import Exercise, Family, assistant, system, user

# fact, question, values of the fact's second blank
_FACTS = (
    ("{} lives in {}.", "Where does {} live?", CITIES),
    ("{} has a {}.", "What does {} have?", ITEMS),
    ("The {} is in the {}.", "Where is the {}?", PLACES),
    ("The {} costs {} dollars.", "How many dollars does the {} cost?", range(2, 100)),
    ("{} likes {}.", "Which colour does {} like?", COLOURS),
    ("{} comes on {}.", "When does {} come?", DAYS),
    ("The {} is {}.", "What colour is the {}?", COLOURS),
)


def _facts(rng: Random, n: int) -> list[tuple[str, str, str]]:
    """n (fact, question, answer) about different things, of one or two kinds."""
    kinds = rng.sample(_FACTS, min(n, rng.randint(1, 2)))
    picked, seen = [], set()
    while len(picked) < n:
        fact, question, values = rng.choice(kinds)
        about = rng.choice(ITEMS if fact.startswith("The") else NAMES)
        value = str(rng.choice(values))
        if about in seen or value in seen:
            continue
        seen |= {about, value}
        picked.append((fact.format(about, value), question.format(about), value))
    return picked


def _inside(fact: str) -> str:
    """A fact as the end of a sentence."""
    return fact.rstrip(".").replace("The ", "the ", 1)


def _article(answer: str) -> tuple[str, ...]:
    return tuple(f"{prefix} {answer}" for prefix in ("a", "an", "in", "in the", "on", "the"))


def _lookup(rng: Random, level: int) -> Exercise:
    facts = _facts(rng, 1 + level + (level == 3))
    fact, question, answer = rng.choice(facts)
    text = " ".join(f for f, _, _ in facts)
    where = rng.random()
    if where < 0.5:
        messages = (user(f"{text} {question}"),)
    elif where < 0.7:
        messages = (system(text), user(question))
    elif where < 0.85:
        quoted = "\n".join(f"- {f}" for f, _, _ in facts)
        lead = rng.choice(("Notes:", "Known facts:", "Recalled from memory (quoted data):"))
        messages = (system(f"{lead}\n{quoted}"), user(question))
    else:
        messages = (user(text), assistant("Noted."), user(question))
    return Exercise(
        "lookup", messages, answer, level=level,
        reason=f"You said {_inside(fact)}", also=_article(answer),
    )  # fmt: skip


_SELF = (
    ("My name is {}.", "What is my name?", NAMES),
    ("I live in {}.", "Where do I live?", CITIES),
    ("My favourite colour is {}.", "What is my favourite colour?", COLOURS),
    ("I have a {}.", "Which animal do I have?", ANIMALS),
    ("My friend is called {}.", "What is my friend called?", NAMES),
    ("My number is {}.", "What is my number?", range(10, 1000)),
    ("My birthday is on {}.", "On which day is my birthday?", DAYS),
    ("I left my keys in the {}.", "Where are my keys?", PLACES),
)
_NOTED = ("Noted.", "Okay.", "Got it.")
_UNRELATED = (
    ("How are you?", "I am well."),
    ("Thanks!", "You are welcome."),
    ("What is 2 + 2?", "4"),
    ("What is 3 * 3?", "9"),
    ("Which day is 1 day after Monday?", "Tuesday"),
    ("Are you there?", "Yes."),
)


def _memory(rng: Random, level: int) -> Exercise:
    """A fact that the user stated some turns ago, among others and unrelated turns."""
    kinds = rng.sample(_SELF, level + 1)
    facts = [
        (fact.format(v := str(rng.choice(values))), question, v) for fact, question, values in kinds
    ]
    fact, question, answer = rng.choice(facts)
    messages = []
    turns = [facts] if level == 1 and rng.random() < 0.4 else [[one] for one in facts]
    for turn in turns:
        messages += [user(" ".join(one[0] for one in turn)), assistant(rng.choice(_NOTED))]
    for _ in range(rng.randint(0, level)):
        unrelated, reply = rng.choice(_UNRELATED)
        messages += [user(unrelated), assistant(reply)]
    messages.append(user(question))
    heard = fact.rstrip(".").replace("My ", "your ").replace("I ", "you ").replace(" my ", " your ")
    return Exercise(
        "memory", tuple(messages), answer, level=level,
        reason=f"You said {heard}", also=_article(answer),
    )  # fmt: skip


_SCALES = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
    ("richer", "richest", "poorest"),
)


def _ordering(rng: Random, level: int) -> Exercise:
    more, most, least = rng.choice(_SCALES)
    names = rng.sample(NAMES, level + 1)  # from most to least
    facts = [f"{a} is {more} than {b}." for a, b in pairwise(names)]
    if level > 1:
        rng.shuffle(facts)
    top = rng.random() < 0.5
    prompt = f"{' '.join(facts)} Who is the {most if top else least}?"
    answer = names[0] if top else names[-1]
    reason = "The order is " + ", ".join(names)
    return Exercise("ordering", (user(prompt),), answer, level=level, reason=reason)


FAMILIES = (
    Family("lookup", _lookup, share=2.4),
    Family("memory", _memory, share=1.4),
    Family("ordering", _ordering),
)
