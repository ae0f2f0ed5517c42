"""The standing judgement: of all that one person said about one thing under one name, the last.

One rule for all who ask what counts: the ledger that answers `GET /v1/feedback`, and the join that
makes experience. An answer and the session it belongs to are two things, so a judgement of the one
never replaces a judgement of the other; for an answer that somebody judged by itself, what they said
of its session does not count (`own_first`). People without a name cannot be told apart and count as one
person. A judgement that was taken back leaves nothing standing in its place: the one that it had
replaced does not return.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

VERDICTS = frozenset({"thumbs", "score", "correction"})


class Place(NamedTuple):
    """What a judgement is about, by whom and under which name. One judgement stands in each."""

    tenant: str
    target: str  # an interaction's id or a session's
    choice: int  # which of an interaction's answers; 0 for a session
    user: str | None
    name: str


@dataclass(frozen=True)
class Worth:
    """What a judgement says of good and bad: `value` in [-1, 1], and its `weight` in [0, 1] beside an
    explicit one's."""

    value: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One person's judgement, as it counts for one answer.

    `value` as in `FeedbackEvent`; `time` in seconds since the epoch. `share` is the part of a
    session's judgement that falls to this answer, 1 for a judgement of the answer itself. `worth` is
    set where it was learnt from what people say, in place of the tables of rewards.py; `rationale` is why,
    in the person's own words.
    """

    id: str
    tenant: str
    user: str | None
    asker: str | None = None  # whose prompt the answer is to, where that is known
    key_id: str | None = None  # the API key that sent it
    interaction_id: str
    choice: int = 0
    session_id: str | None = None  # set where the session was judged
    name: str
    value: float | str
    time: float
    revision: int = 0
    share: float = 1.0
    worth: Worth | None = None
    rationale: str | None = None

    @property
    def place(self) -> Place:
        return place_of(
            self.tenant, self.session_id, self.interaction_id, self.choice, self.user, self.name
        )

    @property
    def answer(self) -> tuple[str, str, int]:
        """The answer it counts for: tenant, interaction id and choice."""
        return self.tenant, self.interaction_id, self.choice

    @property
    def event_id(self) -> str:
        return event_id_of(self.tenant, self.id, self.revision)


def place_of(
    tenant: str,
    session_id: str | None,
    interaction_id: str | None,
    choice: int,
    user: str | None,
    name: str,
) -> Place:
    if session_id is not None:
        return Place(tenant, session_id, 0, user, name)
    return Place(tenant, interaction_id or "", choice, user, name)


def event_id_of(tenant: str, id: str, revision: int) -> str:
    """Unique among all events: clients choose feedback ids, so only the tenant makes them so."""
    return f"{tenant}/{id}" + (f"#{revision}" if revision else "")


def standing(
    judgements: Iterable[Judgement], retracted: Container[tuple[str, str]] = ()
) -> list[Judgement]:
    """The last judgement of each place, oldest first, without those in `retracted` (tenant, id).

    Retracted judgements must be among `judgements` still, to replace what came before them.
    """
    last: dict[Place, Judgement] = {}
    for judgement in sorted(judgements, key=_order):
        last[judgement.place] = judgement
    kept = (j for j in last.values() if (j.tenant, j.id) not in retracted)
    return sorted(kept, key=_order)


def own_first(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those of one answer without what its judges said of its session, where they judged the answer
    itself: the particular beats the general, in whatever order they came. Signals are no verdict."""
    own = {
        (judgement.tenant, judgement.user)
        for judgement in judgements
        if judgement.session_id is None and judgement.name in VERDICTS
    }
    return [
        judgement
        for judgement in judgements
        if judgement.session_id is None
        or judgement.name not in VERDICTS
        or (judgement.tenant, judgement.user) not in own
    ]


def _order(judgement: Judgement) -> tuple[float, int, str]:
    # Equal times are decided by content, so that the order of arrival makes no difference.
    return judgement.time, judgement.revision, judgement.id
