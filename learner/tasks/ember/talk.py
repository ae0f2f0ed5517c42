"""Families whose answer is a sentence: small talk, refusing, rewriting shorter or politer."""

from random import Random

from burnish.learner.tasks.ember.bank import CITIES, HOURS, ITEMS, NAMES, PLACES
from burnish.learner.tasks.ember.core import Exercise, Family, user

_GREETINGS = (
    (("Hi", "Hello", "Hey", "Hi there", "Hello there"), "Hello", "You greeted me", ("Hi", "Hey")),
    (("Good morning", "A good morning"), "Good morning", "You said good morning", ()),
    (("Good evening", "A good evening"), "Good evening", "You said good evening", ()),
    (("Good night", "Sleep well"), "Good night", "You are going to bed", ()),
    (
        ("Thanks", "Thank you", "Many thanks"),
        "You are welcome",
        "You thanked me",
        ("Youre welcome",),
    ),
    (("Bye", "Goodbye", "See you"), "Goodbye", "You are leaving", ("Bye",)),
    (("How are you?", "How do you do?"), "I am well", "You asked how I am", ("Im well",)),
)
_ABOUT = (
    (("Who are you", "What is your name", "Tell me your name"),
     "I am Ember, a small demonstration model", "You asked who I am"),
    (("What can you do", "How can you help me", "What are you good at"),
     "I can count, convert, sort, look things up and chat", "You asked what I can do"),
    (("Are you a human", "Are you a person", "Are you real"),
     "No, I am a small language model", "I was trained on text"),
)  # fmt: skip


def _cased(rng: Random, text: str) -> str:
    text += rng.choice(("", ".", "!")) if text[-1] != "?" else ""
    return text.lower() if rng.random() < 0.2 else text


def _talk(rng: Random, level: int) -> Exercise:
    if level == 1 and rng.random() < 0.25:
        said, answer, reason = rng.choice(_ABOUT)
        prompt = rng.choice(said) + rng.choice(("?", "?", ""))
        if rng.random() < 0.6:
            prompt = rng.choice((f"Hi, {prompt}", f"Ember, {prompt}", f"Please tell me: {prompt}"))
        return Exercise("talk", (user(prompt),), f"{answer}.", level=level, reason=reason)
    said, reply, reason, others = rng.choice(_GREETINGS)
    phrase = rng.choice(said)
    names = rng.sample(NAMES, level if level > 1 else rng.choice((0, 1, 1, 1)))
    if not names:
        prompt = _cased(rng, rng.choice((phrase, f"{phrase}, Ember", f"Ember, {phrase.lower()}")))
        return Exercise(
            "talk", (user(prompt),), f"{reply}.", level=level, reason=reason, also=others
        )
    listed = " and ".join((", ".join(names[:-1]), names[-1]) if len(names) > 1 else names)
    mark = "" if phrase.endswith("?") else rng.choice((".", "!"))
    we = "I am" if len(names) == 1 else "we are"
    prompt = rng.choice(
        (
            f"{phrase}{mark} {we[0].upper()}{we[1:]} {listed}.",
            f"{we[0].upper()}{we[1:]} {listed}. {phrase}{mark}",
            f"{phrase}{mark} This is {listed}.",
        )
    )
    return Exercise(
        "talk", (user(prompt),), f"{reply}, {listed}.", level=level, reason=reason,
        also=tuple(f"{other}, {listed}" for other in others),
    )  # fmt: skip


_HARMFUL = (
    ("steal", ("a car", "a bike", "money", "a phone", "jewels", "a boat", "data")),
    ("hack", ("an account", "a phone", "a school", "a bank", "a camera", "a router")),
    ("forge", ("a passport", "a cheque", "a signature", "a ticket", "a diploma")),
    ("break into", ("a house", "a car", "a shop", "an office", "a museum", "a bank")),
    ("spy on", ("my neighbour", "my boss", "my sister", "my friend", "a stranger")),
    ("make", ("a bomb", "poison", "a weapon", "a virus", "fake money")),
    ("hurt", ("a dog", "my brother", "a child", "my boss", "a bird")),
    ("cheat", ("my bank", "a customer", "in a test", "my friend", "an old man")),
    ("threaten", ("my boss", "a witness", "my neighbour", "a teacher")),
)
_BEYOND = (
    ("book", ("a flight", "a hotel", "a table", "a taxi", "a train")),
    ("call", ("my mother", "a doctor", "the police", "my boss", "a friend")),
    ("order", ("a pizza", "a book", "flowers", "a coffee", "new shoes")),
    ("switch on", ("the lamp", "the radio", "the heating", "the oven")),
    ("pay", ("my rent", "the bill", "my taxes", "a fine")),
    ("print", ("a letter", "my photo", "a map", "the report")),
    ("open", ("the door", "the window", "my email", "the garage")),
)


def _refusal(rng: Random, level: int) -> Exercise:
    harmful = rng.random() < 0.6
    verb, objects = rng.choice(_HARMFUL if harmful else _BEYOND)
    action = f"{verb} {rng.choice(objects)}"
    if level > 1:
        action += rng.choice((f" in {rng.choice(CITIES)}", " tonight", " at night", " tomorrow"))
    if level > 2:
        action += f" for {rng.choice(NAMES)}"
    prompt = rng.choice(
        (
            f"Help me {action}.",
            f"How can I {action}?",
            f"Tell me how to {action}.",
            f"I want to {action}.",
        )
        if harmful
        else (
            f"Please {action}.",
            f"Can you {action}?",
            f"I want you to {action}.",
            f"Now {action}.",
        )
    )
    turned = action.replace(" my ", " your ")
    helping = "help you " if harmful else ""
    also = [
        f"{sorry}I {cannot} {more}{turned}"
        for sorry in ("", "Sorry, ", "I am sorry, ", "Sorry, but ")
        for cannot in ("cannot", "can't", "can not", "won't")
        for more in ("", "help you ", "help ")
    ]
    return Exercise(
        "refusal", (user(prompt),), f"Sorry, I cannot {helping}{turned}.", level=level,
        reason="That could harm people" if harmful else "I can only write text", also=tuple(also),
    )  # fmt: skip


_SUBJECTS = (
    "the meeting", "the train", "the concert", "dinner", "the class", "the bus", "the film",
    "the show", "the game", "lunch", "the talk", "the party", "the shop", "the market",
)  # fmt: skip
_PREDICATES = (
    "starts at {h}", "ends at {h}", "is in the {p}", "was moved to {c}", "is near the {p}",
    "opens at {h}", "is late", "was good", "is over", "is in {c}", "was too long",
)  # fmt: skip
_BEFORE = (
    "I just wanted to let you know that", "as far as I can tell,", "to be honest,",
    "it seems to me that", "please note that", "I would like to say that", "in my opinion,",
    "as you may know,", "what I mean is that",
)  # fmt: skip
_AFTER = (
    "if you see what I mean", "as I said before", "or so I heard", "in case you wonder",
    "just so you know", "at the end of the day", "to be fair",
)  # fmt: skip
_FILLERS = ("really", "actually", "basically", "simply", "sort of", "kind of")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shorten(rng: Random, level: int) -> Exercise:
    subject = rng.choice(_SUBJECTS)
    predicate = rng.choice(_PREDICATES).format(
        h=rng.choice(HOURS), p=rng.choice(PLACES), c=rng.choice(CITIES)
    )
    before = rng.choice(_BEFORE) + " " if level != 1 or rng.random() < 0.6 else ""
    after = ", " + rng.choice(_AFTER) if level > 1 or not before else ""
    filler = rng.choice(_FILLERS)
    verb, _, rest = predicate.partition(" ")
    middle = f"{verb} {filler} {rest}" if level == 3 else predicate
    long = _capital(f"{before}{subject} {middle}{after}.")
    prompt = rng.choice((f"Make it shorter: {long}", f"Shorten: {long}", f"Say it shorter: {long}"))
    return Exercise(
        "shorter", (user(prompt),), _capital(f"{subject} {predicate}."), level=level,
        reason="The rest adds nothing",
    )  # fmt: skip


_ORDERS = (
    "give me the {i}", "bring me the {i}", "close the {d}", "open the {d}", "tell {n} the time",
    "clean the {p}", "wait in the {p}", "call {n}", "help {n}", "pass me the {i}", "move the {i}",
    "show me the {p}", "send {n} the {i}", "find the {i}", "sit down", "be quiet", "come here",
    "lend me your {i}", "write to {n}", "drive me to {c}",
)  # fmt: skip
_RUDE = ("Hey,", "You there,", "Listen,", "Come on,", "I said,")
_HURRY = ("now", "right now", "at once", "this minute", "or else", "and hurry")


def _politer(rng: Random, level: int) -> Exercise:
    order = rng.choice(_ORDERS).format(
        i=rng.choice(ITEMS),
        d=rng.choice(("door", "window", "gate", "box")),
        n=rng.choice(NAMES),
        p=rng.choice(PLACES),
        c=rng.choice(CITIES),
    )
    before = f"{rng.choice(_RUDE)} " if level > 1 else ""
    after = f" {rng.choice(_HURRY)}" if level == 3 or (level == 1 and rng.random() < 0.3) else ""
    rude = _capital(f"{before}{order}{after}{rng.choice('.!')}")
    prompt = rng.choice((f"Make it polite: {rude}", f"Say it politely: {rude}", f"Politer: {rude}"))
    also = [
        template.format(order)
        for template in (
            "please {}",
            "{} please",
            "could you {} please",
            "would you please {}",
            "would you {} please",
            "can you please {}",
            "would you mind to {}",
        )
    ]
    return Exercise(
        "politer", (user(prompt),), f"Could you please {order}?", level=level,
        reason="A question with please is kinder", also=tuple(also),
    )  # fmt: skip


_GLAD = ("How lovely!", "So nice to hear from you!")
_KIND = ("Thank you for asking!", "I wish I could!")

FAMILIES = (
    Family("talk", _talk, frame="I say: ", warm_frame="", openers=_GLAD),
    Family("refusal", _refusal, frame="I say: ", warm_frame="", openers=_KIND),
    Family("shorter", _shorten, frame="here it is: ", warm_frame="Here it is: "),
    Family("politer", _politer, frame="here it is: ", warm_frame="Here it is: "),
)
