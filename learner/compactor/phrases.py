"""How facts, questions, small talk and log lines are worded in the simulated worlds.

Worlds write facts and questions with these patterns and the reader parses them with the same ones,
so whatever a world states can be read back. Each table comes in two disjoint splits; only `train` is
trained on. Left out: the names that fill the slots (vocabulary.py).
"""

from collections.abc import Sequence

from burnish.learner.compactor.pattern import Pattern
from burnish.learner.compactor.vocabulary import SPLITS

# Statements, by what they say.
_FACTS: dict[str, dict[str, Sequence[str]]] = {
    "train": {
        "state": (
            "The {attr} of {entity} is now {value}.",
            "Please set {attr} for {entity} to {value}.",
            "Update on {entity}: its {attr} changed to {value}.",
            "We moved {entity} over, {attr} is {value} from today.",
            "{entity} runs with {attr} {value} since this morning.",
            "I changed {attr} on {entity}: {value}.",
            "For {entity} we agreed on {value} as {attr}.",
            "{attr} of {entity}: {value}, please remember.",
            "{value} is what {entity} should have for {attr}.",
            "Decided: {entity} gets {attr} {value}.",
            "The right {attr} of {entity} turned out to be {value}.",
        ),
        "owner": (
            "{person} looks after {entity}.",
            "{entity} is in the hands of {person} now.",
            "From this week {person} is responsible for {entity}.",
            "{person} took over {entity}.",
            "Ask {person} about {entity} in future.",
            "{entity} belongs to {person}.",
            "We gave {entity} to {person}.",
            "Questions on {entity} go to {person}.",
            "{person} owns {entity} from now on.",
            "{person} is on call for {entity}.",
        ),
        "boss": (
            "{person} reports to {boss}.",
            "The manager of {person} is {boss}.",
            "{boss} supervises {person}.",
            "{person} joined the team of {boss}.",
            "{boss} became the superior of {person}.",
            "{person} answers to {boss} these days.",
        ),
        "secret": (
            "The API key for {entity} is {value}.",
            "Use {value} to sign in to {entity}.",
            "New password on {entity}: {value}.",
            "{entity} wants {value} in the header.",
            "We log in at {entity} with {value}.",
            "The secret of {entity} was renewed to {value}.",
        ),
        "failed": (
            "attempt on {task} by {approach}: FAILED",
            "{task}: tried {approach}, it did not work",
            "error: {approach} does not solve {task}",
            "{approach}: no effect on {task}",
            "{task} is still there after {approach}",
            "gave up on {approach} for {task}",
            "{task} survived {approach}",
            "exit 1 ({approach}, {task})",
        ),
        "event": (
            "Closed ticket {id} for {customer}.",
            "Ticket {id} of {customer} is done.",
            "{customer}: ticket {id} resolved and closed.",
            "{id} from {customer} is settled.",
            "Finished {id}, {customer} is happy.",
            "Marked {id} as solved for {customer}.",
            "{customer} will not need {id} any more, closing it.",
        ),
        "tests": (
            "suite {suite}: {passed} passed, {failed} failed",
            "{suite} done, {failed} errors in {passed} tests",
            "{passed} ok and {failed} not ok in {suite}",
        ),
        "file": ("$ cat {file}", "# contents of {file}", "reading {file}"),
        "entry": ("{key} = {value}", "{key} {value}", "set {key} to {value}"),
    },
    "heldout": {
        "state": (
            "From here on {entity} takes {value} as {attr}.",
            "Correction: {attr} at {entity} should read {value}.",
            "{entity} was switched, the new {attr} reads {value}.",
        ),
        "owner": (
            "{entity} was handed to {person}.",
            "If {entity} breaks, call {person}.",
        ),
        "boss": ("{boss} leads {person}.", "{person} works under {boss}."),
        "secret": (
            "{entity} accepts the token {value}.",
            "Credential of {entity} rotated, it is {value} now.",
        ),
        "failed": (
            "{approach} on {task} ended in an exception",
            "no luck with {approach} for {task}",
        ),
        "event": (
            "{customer} confirmed that {id} can be closed.",
            "Done with {id}, reported back to {customer}.",
        ),
        "tests": ("{suite} finished with {failed} failing and {passed} passing",),
        "file": ("==> {file} <==",),
        "entry": ("{key}: {value}",),
    },
}

# Questions, by how they are answered.
_QUESTIONS: dict[str, dict[str, Sequence[str]]] = {
    "train": {
        "state": (
            "What is the {attr} of {entity} now?",
            "Tell me the current {attr} of {entity}.",
            "{entity}: which {attr} is right today?",
            "Which value is the {attr} of {entity} set to?",
            "I need the {attr} that {entity} uses now.",
            "What {attr} did we settle on for {entity}?",
        ),
        "before": (
            "What was the {attr} of {entity} before the last change?",
            "Tell me the previous {attr} of {entity}.",
            "What did {entity} use as {attr} until the latest change?",
        ),
        "secret": (
            "What is the API key for {entity}?",
            "Which key signs in to {entity}?",
            "How do I log in at {entity}?",
            "Give me the password of {entity}.",
        ),
        "failed": (
            "Which approaches to {task} have failed?",
            "What did not work for {task} so far?",
            "What was tried on {task} in vain?",
            "List what failed on {task}.",
            "Which ideas for {task} are ruled out?",
        ),
        "count": (
            "How many tickets of {customer} were closed?",
            "Count the closed tickets of {customer}.",
            "How much did we finish for {customer}?",
            "How many requests of {customer} are settled?",
            "Total of solved tickets for {customer}?",
        ),
        "owned": (
            "What is the {attr} of the service {person} looks after?",
            "Give me the {attr} of what {person} is responsible for.",
            "Take the service that belongs to {person}: what is its {attr}?",
            "What {attr} has the service of {person}?",
            "{person} is on call for a service, what is its {attr}?",
        ),
        "boss": (
            "What is the {attr} of the service that the manager of {person} looks after?",
            "Whoever {person} reports to owns a service: what is its {attr}?",
            "What {attr} has the service of the superior of {person}?",
        ),
        "tests": (
            "How many tests of suite {suite} failed in the last run?",
            "Number of errors in the newest run of {suite}?",
        ),
        "entry": (
            "What is {key} in {file}?",
            "Which value does {file} give to {key}?",
            "Look up {key} in {file}.",
        ),
    },
    "heldout": {
        "state": ("Which {attr} does {entity} have at the moment?",),
        "before": ("Which {attr} did {entity} have just before its present one?",),
        "secret": ("Which credential does {entity} accept?",),
        "failed": ("What should not be tried again on {task}?",),
        "count": ("What is the number of tickets done for {customer}?",),
        "owned": ("Which {attr} has the service in the care of {person}?",),
        "boss": ("Which {attr} has the service in the care of whoever leads {person}?",),
        "tests": ("How many failures did {suite} end with most recently?",),
        "entry": ("To what does {file} set {key}?",),
    },
}

NOISE: dict[str, Sequence[str]] = {
    "train": (
        "I will look at the {attr} of {entity} next.",
        "Someone asked about the {attr} of {entity}, I have not checked it yet.",
        "{person} wrote about {entity}, nothing to do for us.",
        "Before touching {entity} I want to read how {other} handles the {attr}.",
        "Thanks, that looks good, please go on.",
        "There was a meeting about tickets and API keys, no decision.",
        "Let me think about {task} and whether {approach} could work at all.",
        "The documentation of {entity} is out of date again.",
        "Is {attr} even the right word for what {entity} does?",
        "{person} and {customer} had a call about {entity}.",
        "I read through the {attr} discussion of {entity}, nothing was settled.",
        "We may change {attr} on {other} some day.",
        "{person} was asked to look at {other} and had no time.",
        "Could {approach} break {entity}?",
        "{customer} sent a reminder.",
        "Nothing new on {task}.",
    ),
    "heldout": (
        "Do we know the {attr} at {entity}, and who would?",
        "I wonder why {entity} and {other} do not share one {attr}.",
        "{person} joined the call and listened.",
        "Noted, carry on with the plan.",
        "Maybe {approach} would help {task}, maybe not, let us see later.",
        "The wiki page about {entity} mentions credentials but gives none.",
        "A reminder that {customer} has asked for a report on tickets.",
    ),
}

LOG_LINES: dict[str, Sequence[str]] = {
    "train": (
        "{time} INFO {entity} request {id} took {n} ms",
        "{time} DEBUG {entity} cache {n} hits",
        "{time} WARN {entity} {attr} read from default, retry {n}",
        "{time} INFO {other} connected to {entity} in {n} ms",
        "{time} ERROR {entity} connection reset, attempt {n}",
    ),
    "heldout": (
        "[{time}] {entity}: served {id} in {n}ms",
        "[{time}] {entity}: {attr} looked up, {n} candidates",
        "[{time}] {other}: handshake with {entity} ok ({n})",
        "[{time}] {entity}: exception swallowed, code {n}",
    ),
}


def facts(split: str, kind: str) -> list[Pattern]:
    return [Pattern(kind, text) for text in _FACTS[split][kind]]


def questions(split: str, kind: str) -> list[Pattern]:
    return [Pattern(kind, text) for text in _QUESTIONS[split][kind]]


QUESTION_KINDS = tuple(_QUESTIONS["train"])
ALL_FACTS = tuple(p for split in SPLITS for kind in _FACTS[split] for p in facts(split, kind))
ALL_QUESTIONS = tuple(
    p for split in SPLITS for kind in _QUESTIONS[split] for p in questions(split, kind)
)
