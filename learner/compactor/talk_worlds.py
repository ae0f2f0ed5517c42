"""Simulated talk: friends over months of messages, and a person's long chats with an assistant.

Facts are strewn into chit-chat, told outright or in answer to somebody's question; others say the same
words and tell nothing; people change their minds; questions come weeks later in other words. What
counts is which steps state the answer (`evidence`). Two disjoint splits, as in the other worlds:
topics, wordings, names and times of `heldout` are never trained on. Left out: the words
(talk_words.py, talk_words_heldout.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from burnish.learner.compactor.talk_topic import TalkWords, Topic
from burnish.learner.compactor.talk_words import TRAIN
from burnish.learner.compactor.talk_words_heldout import HELDOUT
from burnish.learner.compactor.world import Count, LogBuilder, World, WorldQuestion, rough_count

WORDS: dict[str, TalkWords] = {"train": TRAIN, "heldout": HELDOUT}
FACTS = {"talk": 40, "assistant": 18}  # told in a world
CHAT = (5, 12)  # messages of chit-chat between two facts
NEWS = 0.6  # of the chit-chat tells of something that nobody asks about
TOPICAL = 0.12  # of the chit-chat uses a topic's words
LEADS = (0.15, 0.35, 0.5)  # of the facts say in no, one or two sentences what they are about
CHANGED = 0.2  # of the facts replace one told before


@dataclass
class _Told:
    """What one person told about one topic: value and place of each, the latest last."""

    topic: Topic
    who: str
    stated: list[tuple[str, int, bool]] = field(default_factory=list)  # value, place, with a time


class _Talk:
    """One world while its log grows."""

    def __init__(self, seed: int, kind: str, split: str, count: Count) -> None:
        self.rng = rng = Random(f"{kind}/{split}/{seed}")
        self.words = WORDS[split]
        self.log = LogBuilder(rng, count)
        self.told: dict[tuple[str, str], _Told] = {}
        self.people = rng.sample(self.words.names, rng.choice((2, 2, 2, 3)))
        # How speakers are told apart is up to the product: in the text, by name, by role.
        self.shape = rng.choice(("text", "text", "name", "role"))

    # -- saying --------------------------------------------------------------------------------

    def say(self, who: str, text: str) -> int:
        role = "user" if who == self.people[0] or self.shape != "role" else "assistant"
        if self.shape == "text":
            return self.log.say(role, f"{who}: {text}")
        return self.log.say(role, text, **({"name": who} if self.shape == "name" else {}))

    def chat(self, n: int) -> None:
        """Chit-chat, some of it in the words of topics, telling nothing."""
        for _ in range(n):
            text = self.news() if self.rng.random() < NEWS else self.rng.choice(self.words.chat)
            if self.rng.random() < TOPICAL:
                text = self.rng.choice(self.rng.choice(self.words.topics).chat)
            if self.rng.random() < 0.3:
                text += f" {self.rng.choice((self.news(), self.rng.choice(self.words.chat)))}"
            if self.rng.random() < 0.15:
                text = f"{self.rng.choice(self.people)}, {text[0].lower()}{text[1:]}"
            self.say(self.rng.choice(self.people), text)

    def news(self) -> str:
        """Something that nobody asks about."""
        said = " ".join(self.rng.choice(part) for part in self.words.news)
        return f"{said[0].upper()}{said[1:]}{self.rng.choice('.!.')}"

    def fact(
        self, topic: Topic, who: str
    ) -> tuple[str, bool, Callable[[Callable[[str], int]], int]]:
        """A value not told yet, whether a time is told with it, and how to say it."""
        rng = self.rng
        known = self.told.setdefault((topic.name, who), _Told(topic, who))
        left = [x for x in topic.values if x not in [value for value, *_ in known.stated]]
        value = rng.choice(left or list(topic.values))
        change = bool(known.stated) and not topic.several
        text = rng.choice(self.words.changes if change else topic.tells)
        timed = "{when}" in text
        said = text.format(x=value, when=rng.choice(self.words.times))
        said = self.led(topic, said[0].upper() + said[1:])
        if rng.random() < 0.35:
            said = f"{rng.choice(self.words.chat)} {said}"
        if rng.random() < 0.3:
            said = f"{said} {rng.choice(self.words.chat)}"
        return value, timed, lambda say: say(said)

    def led(self, topic: Topic, said: str) -> str:
        """Mostly with words that questions use, in others, or in none of them."""
        leads = self.rng.sample(topic.leads, self.rng.choices((0, 1, 2), LEADS)[0])
        return " ".join([*leads, said])

    def tell(self, topic: Topic, who: str) -> None:
        """In a message, or as an answer to somebody's question; then somebody reacts."""
        rng, others = self.rng, [name for name in self.people if name != who]
        value, timed, stated = self.fact(topic, who)
        known = self.told[topic.name, who]
        first = not known.stated or bool(topic.several)
        if rng.random() < 0.2:
            self.say(rng.choice(self.people), rng.choice(topic.chat))
        if first and rng.random() < 0.5:
            asked, answer = rng.choice(topic.exchanges)
            self.say(rng.choice(others), asked)
            answer = answer.format(x=value)
            answer = self.led(topic, answer[0].upper() + answer[1:])
            place, timed = self.say(who, answer), False
        else:
            place = stated(lambda text: self.say(who, text))
        known.stated.append((value, place, timed))
        if rng.random() < 0.6:
            reaction = rng.choice(self.words.reactions).format(x=value)
            self.say(rng.choice(others), reaction[0].upper() + reaction[1:])
        if rng.random() < 0.15:
            self.say(who, rng.choice(topic.chat))

    # -- asking --------------------------------------------------------------------------------

    def questions(self, n: int, wordings: str) -> list[WorldQuestion]:
        found = []
        for told in self.told.values():
            topic, (value, place, timed) = told.topic, told.stated[-1]
            if topic.several and len(told.stated) > 1 and wordings == "questions":
                values = ", ".join(value for value, *_ in told.stated)
                places = [place for _, place, _ in told.stated]
                found.append(self._question("several", topic.several, told, values, places))
            elif len(told.stated) > 1 and topic.several:
                continue  # which of them is meant is not said
            elif timed and topic.whens and wordings == "questions":
                found.append(self._question("when", topic.whens, told, "", [place]))
            else:
                kind = "latest" if len(told.stated) > 1 else "single"
                found.append(self._question(kind, getattr(topic, wordings), told, value, [place]))
        self.rng.shuffle(found)
        return found[:n]

    def _question(
        self, kind: str, wordings: Sequence[str], told: _Told, answer: str, places: list[int]
    ) -> WorldQuestion:
        text = self.rng.choice(wordings).format(who=told.who)
        return WorldQuestion(kind, text, answer, tuple(sorted(set(places))))


class _Assistant(_Talk):
    """One person and an assistant: facts are mentioned in passing, replies are long."""

    def __init__(self, seed: int, kind: str, split: str, count: Count) -> None:
        super().__init__(seed, kind, split, count)
        self.people, self.shape = ["user", "assistant"], "role"

    def reply(self, topic: Topic | None) -> None:
        rng, lines = self.rng, []
        for number in range(rng.randrange(3, 9)):
            source = rng.choice(self.words.topics) if topic is None else topic
            own = rng.choice(source.advice if rng.random() < 0.7 else self.words.filler)
            lines.append(f"{number + 1}. {own}")
        opening, closing = rng.sample(self.words.filler, 2)
        self.log.say("assistant", "\n".join([opening, *lines, closing]))

    def chat(self, n: int) -> None:
        for _ in range(n // 3):
            if self.rng.random() < 0.5:
                topic = self.rng.choice(self.words.topics)
                asked = f"{self.rng.choice(topic.chat)} {self.rng.choice(self.words.requests)}"
            else:
                topic, asked = None, self.rng.choice(self.words.errands)
            self.log.say("user", asked)
            self.reply(topic)

    def tell(self, topic: Topic, who: str) -> None:
        value, timed, stated = self.fact(topic, "user")
        request = self.rng.choice(self.words.requests)
        place = stated(lambda text: self.log.say("user", f"{text} {request}"))
        self.told[topic.name, "user"].stated.append((value, place, timed))
        self.reply(topic)


def make_talk(
    seed: int,
    kind: str = "talk",
    split: str = "train",
    *,
    facts: int | None = None,
    questions: int = 12,
    count: Count = rough_count,
) -> World:
    """A world of `kind` "talk" (between people) or "assistant", with so many facts told."""
    if split not in WORDS or kind not in KINDS:
        raise ValueError(f"split is one of {', '.join(WORDS)}, kind one of {', '.join(KINDS)}")
    world = KINDS[kind](seed, kind, split, count)
    rng = world.rng
    for _ in range(facts or FACTS[kind]):
        world.chat(rng.randint(*CHAT))
        topic = rng.choice(world.words.topics)
        who = rng.choice(world.people)
        again = (topic.name, who) in world.told and not topic.several
        if not again or rng.random() < CHANGED:
            world.tell(topic, who)
    world.chat(rng.randint(*CHAT))
    drawn = world.questions(questions, "own" if kind == "assistant" else "questions")
    return World(seed, tuple(world.log.steps), tuple(drawn))


KINDS: dict[str, type[_Talk]] = {"talk": _Talk, "assistant": _Assistant}
