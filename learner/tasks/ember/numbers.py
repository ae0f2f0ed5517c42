"""Families about numbers: arithmetic, sequences, units, calendar."""

from random import Random

from burnish.learner.tasks.ember.bank import COUNTED, DAYS, MONTH_LENGTHS, MONTHS, NAMES
from burnish.learner.tasks.ember.core import Exercise, Family, user


def _add(a: int, b: int) -> str:
    """The reason for a + b, place by place."""
    places = [p for p in (100, 10, 1) if a >= p or b >= p]
    parts = [(a // p % 10 * p, b // p % 10 * p) for p in places]
    return ", ".join(f"{x} + {y} = {x + y}" for x, y in parts)


def _subtract(a: int, b: int) -> str:
    tens = b // 10 * 10
    if tens in (0, b):
        return f"{a} - {b} = {a - b}"
    return f"{a} - {tens} = {a - tens}, {a - tens} - {b - tens} = {a - b}"


def _multiply(a: int, b: int) -> str:
    if a < 11:
        return f"{a} * {b} = {a * b}"
    tens, ones = a // 10 * 10, a % 10
    return f"{tens} * {b} = {tens * b}, {ones} * {b} = {ones * b}"


def _arithmetic(rng: Random, level: int) -> Exercise:
    operation = rng.choice("+-*")
    if operation == "+":
        top = 999 if level == 3 else 99
        a, b = rng.randint(2, top), rng.randint(2, top)
        answer, reason = a + b, _add(a, b)
    elif operation == "-":
        a = rng.randint(20, (49, 99, 299)[level - 1])
        b = rng.randint(2, min(a - 1, 99))
        answer, reason = a - b, _subtract(a, b)
    else:
        low, high = ((2, 10), (11, 40), (11, 99))[level - 1]
        a, b = rng.randint(low, high), rng.randint(2, 10 if level == 1 else 9)
        answer, reason = a * b, _multiply(a, b)
    name, item = rng.choice(NAMES), rng.choice(COUNTED)
    verb = {"+": "gets", "-": "gives away", "*": "sees"}[operation]
    story = f"{name} has {a} {item}s and {verb} {b}. How many are left?"
    if operation == "+":
        story = f"{name} has {a} {item}s and gets {b} more. How many now?"
    if operation == "*":
        story = f"{name} fills {a} boxes with {b} {item}s each. How many {item}s?"
    expression = f"{a} {operation} {b}"
    prompt = rng.choice(
        (f"What is {expression}?", f"{expression} = ?", f"Calculate {expression}.", story)
    )
    return Exercise("arithmetic", (user(prompt),), str(answer), level=level, reason=reason)


def _sequence(rng: Random, level: int) -> Exercise:
    if level == 3 and rng.random() < 0.5:
        start, shown = rng.randint(1, 12), 4
        numbers = [start * 2**i for i in range(shown + 1)]
        rule = f"Each is twice the last and 2 * {numbers[-2]} = {numbers[-1]}"
    else:
        step = rng.randint(1, (5, 10, 25)[level - 1])
        shown = rng.randint(3, 4)
        start = rng.randint(1, 40 if level == 1 else 90)
        numbers = [start + step * i for i in range(shown + 1)]
        sign = "+"
        if level > 1 and rng.random() < 0.4:
            numbers, sign = numbers[::-1], "-"
        rule = f"The step is {step} and {numbers[-2]} {sign} {step} = {numbers[-1]}"
    listed = ", ".join(map(str, numbers[:-1]))
    prompt = rng.choice(
        (f"What comes next: {listed}?", f"Continue: {listed}", f"Next number after {listed}?")
    )
    return Exercise("sequence", (user(prompt),), str(numbers[-1]), level=level, reason=rule)


_UNITS = (
    ("hour", "minutes", 60),
    ("minute", "seconds", 60),
    ("day", "hours", 24),
    ("week", "days", 7),
    ("year", "months", 12),
    ("kilometre", "metres", 1000),
    ("metre", "centimetres", 100),
    ("centimetre", "millimetres", 10),
    ("kilogram", "grams", 1000),
    ("litre", "millilitres", 1000),
    ("dollar", "cents", 100),
    ("dozen", "pieces", 12),
)


def _units(rng: Random, level: int) -> Exercise:
    big, small, factor = rng.choice(_UNITS)
    bigs = "dozen" if big == "dozen" else f"{big}s"
    n = rng.randint(2, (9, 15, 12)[level - 1])
    total = n * factor
    if level == 3:
        extra = rng.randint(1, min(factor - 1, 20))
        prompt = f"How many {small} are {n} {bigs} and {extra} {small}?"
        reason = f"{n} * {factor} = {total}, {total} + {extra} = {total + extra}"
        answer, unit = total + extra, small
    elif level == 2 and rng.random() < 0.6:
        prompt = f"How many {bigs} are {total} {small}?"
        reason, answer, unit = f"{total} / {factor} = {n}", n, bigs
    else:
        prompt = rng.choice(
            (
                f"How many {small} are {n} {bigs}?",
                f"Convert {n} {bigs} to {small}.",
                f"{n} {bigs} in {small}?",
            )
        )
        reason, answer, unit = f"{n} * {factor} = {total}", total, small
    return Exercise(
        "units",
        (user(prompt),),
        f"{answer} {unit}",
        level=level,
        reason=reason,
        also=(str(answer),),
    )


def _calendar(rng: Random, level: int) -> Exercise:
    if rng.random() < 0.5:
        return _weekday(rng, level)
    month = rng.randrange(12)
    length, name = MONTH_LENGTHS[month], MONTHS[month]
    if level < 3:
        ahead = rng.randint(1, 9 if level == 1 else 15)
        day = rng.randint(1, length - ahead)
        answer, reason = f"{day + ahead} {name}", f"{day} + {ahead} = {day + ahead}"
    else:
        ahead = rng.randint(2, 20)
        day = rng.randint(length - ahead + 1, length)
        over = day + ahead - length
        answer = f"{over} {MONTHS[(month + 1) % 12]}"
        reason = f"{name} has {length} days and {day} + {ahead} - {length} = {over}"
    prompt = rng.choice(
        (
            f"What date is {ahead} days after {day} {name}?",
            f"Which date comes {ahead} days after {day} {name}?",
            f"Today is {day} {name}. What date is it in {ahead} days?",
        )
    )
    number, of = answer.split()
    return Exercise(
        "calendar", (user(prompt),), answer, level=level, reason=reason, also=(f"{of} {number}",)
    )


def _weekday(rng: Random, level: int) -> Exercise:
    """Days of the week and months of the year, forwards and (from level 2) backwards."""
    cycle, one = (DAYS, "day") if rng.random() < 0.7 else (MONTHS, "month")
    steps = rng.randint(1, (4, 6, 20)[level - 1])
    sign = -1 if level > 1 and rng.random() < 0.4 else 1
    start = rng.randrange(len(cycle))
    answer = cycle[(start + sign * steps) % len(cycle)]
    word = "after" if sign > 0 else "before"
    unit = one if steps == 1 else f"{one}s"
    prompt = rng.choice(
        (
            f"Which {one} is {steps} {unit} {word} {cycle[start]}?",
            f"What {one} comes {steps} {unit} {word} {cycle[start]}?",
        )
    )
    rest = steps % len(cycle)
    walk = [cycle[(start + sign * i) % len(cycle)] for i in range(rest + 1)]
    reason = ("" if rest == steps else f"{steps} is like {rest}: ") + ", ".join(walk)
    return Exercise("calendar", (user(prompt),), answer, level=level, reason=reason)


FAMILIES = (
    Family("arithmetic", _arithmetic, thinks=True, share=3.2),
    Family("sequence", _sequence, thinks=True, share=1.4),
    Family("units", _units, thinks=True),
    Family("calendar", _calendar, thinks=True, share=1.2),
)
