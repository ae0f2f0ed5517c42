"""Families about words and lists: reversing, spelling, counting, sorting, picking."""

from random import Random

from burnish.learner.tasks.ember.bank import ITEMS, WORDS
from burnish.learner.tasks.ember.core import Exercise, Family, user


def _of_length(rng: Random, low: int, high: int) -> str:
    while not low <= len(word := rng.choice(WORDS)) <= high:
        pass
    return word


def _spelled(word: str) -> str:
    return "-".join(word)


def _reverse(rng: Random, level: int) -> Exercise:
    if level == 3:
        words = rng.sample(WORDS, 3)
        prompt = f"Reverse the order of the words: {' '.join(words)}"
        reason = f"The last word is {words[-1]}"
        return Exercise(
            "reverse", (user(prompt),), " ".join(words[::-1]), level=level, reason=reason
        )
    word = _of_length(rng, *((3, 4), (4, 6))[level - 1])
    suffix = rng.choice(("", "s", "y")) if level == 1 else ""
    word += suffix
    prompt = rng.choice(
        (f"Reverse the word {word}.", f"Write {word} backwards.", f"Spell {word} backwards.")
    )
    reason = f"{_spelled(word)} turned round is {_spelled(word[::-1])}"
    return Exercise(
        "reverse", (user(prompt),), word[::-1], level=level, reason=reason,
        also=(_spelled(word[::-1]),),
    )  # fmt: skip


_NTH = ("first", "second", "third", "fourth", "fifth")


def _words(rng: Random, level: int) -> Exercise:
    """Spelling, letters by position, words by position, swapping a letter."""
    kind = rng.choice(("spell", "letter", "pick") if level < 3 else ("swap", "pick", "initials"))
    if kind == "pick":
        words = rng.sample(WORDS, 3 + level)
        n = rng.randrange(min(len(words), 5))
        prompt = f"What is the {_NTH[n]} word: {' '.join(words)}"
        answer, reason = words[n], "I count " + ", ".join(words[: n + 1])
    elif kind == "spell":
        word = _of_length(rng, 3, 4 + level)
        prompt = rng.choice((f"Spell the word {word}.", f"How do you spell {word}?"))
        answer, reason = _spelled(word), f"{word} has the letters " + " ".join(word)
    elif kind == "letter":
        word = _of_length(rng, 3, 4 + level)
        n = rng.randrange(min(3, len(word)))
        which, at = rng.choice(((_NTH[n], n), ("last", len(word) - 1)))
        prompt = f"What is the {which} letter of {word}?"
        answer, reason = word[at], f"{word} is spelled {_spelled(word)}"
    elif kind == "swap":
        word = _of_length(rng, 4, 6)
        old = rng.choice(word)
        new = rng.choice([c for c in "abcdeghilmnoprstu" if c not in word])
        prompt = f"Replace {old} with {new} in {word}."
        answer, reason = word.replace(old, new), f"{_spelled(word)} has {old}"
    else:
        words = rng.sample(WORDS, 3)
        prompt = f"Write the first letters of: {' '.join(words)}"
        answer = "".join(w[0] for w in words)
        reason = ", ".join(f"{w} gives {w[0]}" for w in words)
    return Exercise("words", (user(prompt),), answer, level=level, reason=reason)


def _count(rng: Random, level: int) -> Exercise:
    kind = rng.choice(("letters", "items", "times" if level > 1 else "items", "letter"))
    if kind == "letters":
        word = _of_length(rng, 3, (5, 6, 8)[level - 1])
        prompt = rng.choice((f"How many letters are in {word}?", f"Count the letters of {word}."))
        answer = len(word)
        reason = ", ".join(f"{c} {i}" for i, c in enumerate(word, 1))
    elif kind == "letter":
        word = _of_length(rng, 4, 6 + level)
        letter = rng.choice(word)
        prompt = f"How often is {letter} in {word}?"
        answer = word.count(letter)
        reason = f"{_spelled(word)} has " + " ".join(letter * answer)
    elif kind == "items":
        items = rng.sample(ITEMS, rng.randint(2, 3 + 2 * level))
        prompt = rng.choice(
            (f"How many items: {', '.join(items)}?", f"Count the items: {', '.join(items)}")
        )
        answer = len(items)
        reason = ", ".join(f"{item} {i}" for i, item in enumerate(items, 1))
    else:
        chosen, other, third = rng.sample(ITEMS, 3)
        pool = [chosen, other] if level == 2 else [chosen, other, third]
        items = [rng.choice(pool) for _ in range(rng.randint(4, 4 + level))]
        prompt = f"How often is {chosen} in: {', '.join(items)}?"
        answer = items.count(chosen)
        hits = ", ".join(f"{chosen} {i}" for i in range(1, answer + 1))
        reason = hits or f"I see no {chosen}"
    return Exercise("counting", (user(prompt),), str(answer), level=level, reason=reason)


def _numbers(rng: Random, n: int, level: int) -> list[int]:
    return rng.sample(range(1, 100 if level < 3 else 500), n)


def _sort(rng: Random, level: int) -> Exercise:
    falling = level > 1 and rng.random() < 0.4
    if level > 1 and rng.random() < 0.3:
        words = rng.sample(WORDS, 3)
        while len({w[0] for w in words}) < 3:
            words = rng.sample(WORDS, 3)
        prompt = f"Sort by alphabet: {', '.join(words)}"
        answer = ", ".join(sorted(words))
        reason = "By first letters the order is " + " ".join(w[0] for w in sorted(words))
        return Exercise("sorting", (user(prompt),), answer, level=level, reason=reason)
    numbers = _numbers(rng, 2 + level, level)
    ordered = sorted(numbers, reverse=falling)
    listed = ", ".join(map(str, numbers))
    prompt = rng.choice(
        (f"Sort from largest to smallest: {listed}", f"Sort falling: {listed}")
        if falling
        else (
            f"Sort: {listed}",
            f"Sort from smallest to largest: {listed}",
            f"Put in order: {listed}",
        )
    )
    edge = "largest" if falling else "smallest"
    return Exercise(
        "sorting",
        (user(prompt),),
        ", ".join(map(str, ordered)),
        level=level,
        reason=f"The {edge} is {ordered[0]} and then come {', '.join(map(str, ordered[1:]))}",
    )


def _extremes(rng: Random, level: int) -> Exercise:
    numbers = _numbers(rng, 2 + 2 * level - (level == 3), level)
    listed = ", ".join(map(str, numbers))
    high = rng.random() < 0.5
    edge = rng.choice(("largest", "biggest", "highest") if high else ("smallest", "lowest"))
    prompt = rng.choice((f"What is the {edge} of {listed}?", f"Which is the {edge}: {listed}?"))
    answer = max(numbers) if high else min(numbers)
    second = sorted(numbers)[-2 if high else 1]
    reason = f"{answer} is {'more' if high else 'less'} than {second}"
    return Exercise("extremes", (user(prompt),), str(answer), level=level, reason=reason)


FAMILIES = (
    Family("reverse", _reverse, share=1.2),
    Family("words", _words, share=1.6),
    Family("counting", _count, thinks=True, share=1.2),
    Family("sorting", _sort, share=1.2),
    Family("extremes", _extremes),
)
