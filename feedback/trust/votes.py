"""Votes: judgements that say good or bad, as trust sees them."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import worth_of


class Rater(NamedTuple):
    """A user as one API key names them: whoever votes in another's name through a key of their own harms
    only that name under that key."""

    tenant: str
    user: str
    key_id: str | None = None


Person = tuple[str, str]  # a tenant, and a user as that tenant names them, under whatever key


class Vote(NamedTuple):
    """A judgement that says good or bad: its place in the list, and its value in [-1, 1].

    `expected` is the value that a model fitted to others' judgements expects of the answer, and `kind` the
    kind of prompts that the answer's is of; None where nobody knows.
    """

    index: int
    judgement: Judgement
    value: float
    expected: float | None = None
    kind: Hashable = None

    @property
    def rater(self) -> Rater | None:
        """Who judged, or who asked where the judgement names nobody; None where neither is known."""
        person = person_of(self.judgement)
        return None if person is None else Rater(*person, self.judgement.key_id)


def person_of(judgement: Judgement) -> Person | None:
    """Who judged, or who asked where the judgement names nobody; None where neither is known."""
    user = judgement.user if judgement.user is not None else judgement.asker
    return None if user is None else (judgement.tenant, user)


def votes_among(
    judgements: Sequence[Judgement],
    expected: Sequence[float | None] | None = None,
    kinds: Sequence[Hashable] | None = None,
) -> list[Vote]:
    """The votes among judgements, each with what is expected of its answer and its kind of prompts."""
    nothing = [None] * len(judgements)
    told = zip(judgements, expected or nothing, kinds or nothing, strict=True)
    return [
        Vote(index, judgement, worth.value, expectation, kind)
        for index, (judgement, expectation, kind) in enumerate(told)
        if (worth := worth_of(judgement)) is not None
    ]


def by_rater(votes: Iterable[Vote]) -> dict[Rater, list[Vote]]:
    """The votes of each rater who is known."""
    grouped: dict[Rater, list[Vote]] = defaultdict(list)
    for vote in votes:
        if (rater := vote.rater) is not None:
            grouped[rater].append(vote)
    return grouped
