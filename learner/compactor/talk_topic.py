"""What people tell each other in the simulated talks: topics, and the words of chit-chat.

A topic is a fact about a person's life: how it is told outright, or asked for and answered in few
words; how somebody asks about it weeks later, mostly in other words; talk that uses the same words
and tells nothing; and what an assistant writes about it at length. `{x}` is the value, `{when}` a
time, `{who}` the person. Left out: the topics themselves, of which those of talk_topics.py are
trained on and those of talk_topics_heldout.py are not; the two share no wording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """`several` marks a topic of which one person may have many."""

    name: str
    values: Sequence[str]
    leads: Sequence[str]  # say what it is about, in words that a question may share
    tells: Sequence[str]  # with {x}, some with {when}
    exchanges: Sequence[tuple[str, str]]  # the other's question, an answer with {x}
    questions: Sequence[str]  # about {who}
    own: Sequence[str]  # the same, asked by the person of an assistant
    chat: Sequence[str]
    advice: Sequence[str]
    whens: Sequence[str] = ()  # questions after the time of a told {when}
    several: Sequence[str] = ()  # questions after all values


@dataclass(frozen=True)
class TalkWords:
    """All that one split is worded with."""

    topics: Sequence[Topic]
    chat: Sequence[str]
    news: Sequence[Sequence[str]]  # of no topic: who, did what, to what, where, when
    reactions: Sequence[str]  # to what somebody told, some with {x}
    changes: Sequence[str]  # of mind: {x} instead of what was told before
    requests: Sequence[str]  # to an assistant, after what is mentioned in passing
    filler: Sequence[str]  # of an assistant
    errands: Sequence[str]  # for an assistant, about nothing in particular
    names: Sequence[str]
    times: Sequence[str]
