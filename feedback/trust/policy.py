"""The numbers that trust goes by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from burnish.feedback.trust.votes import Rater


@dataclass(frozen=True)
class TrustPolicy:
    user_votes: float = 200.0
    """Weight that one rater's judgements may have in a window, all together: at most, and where too few people are
    known to say what is usual."""
    least_user_votes: float = 20.0
    """The same, at least, however little most people vote."""
    usual_times: float = 3.0
    """How many times the weight of nine honest raters in ten, in their busiest window, a rater may have."""
    established: float = 2.0
    """Votes' worth of agreement, times one and the days it took, that make a newcomer established."""
    unknown_agreement: float = 0.4
    """What a vote counts as agreement where nothing is expected of its answer: twice what an honest one shows, since
    while only some are established hardly anybody else is heard, and that should be over soon."""
    newcomer_share: float = 0.02
    """The most that the newcomers of one API key may have beside the established in a window, where that is more
    than their pool."""
    newcomer_kind_share: float = 0.15
    """The most that they may have beside the established in a kind of prompts."""
    anonymous_share: float = 0.25
    """The most that judgements by nobody named may have of their API key's weight in a window."""
    key_share: float = 0.5
    """The most that one API key may have of its tenant's weight in a window."""
    tenant_share: float = 0.5
    """The most that one tenant may have of all weight in a window."""
    update_share: float = 0.5
    """The most that one tenant may have of all weight in an update: no more than all others together."""
    owner: str | None = None
    """The tenant whose policy it is: no share bounds theirs."""
    released: Mapping[Rater, float] = field(default_factory=dict)
    """Whom an admin has let out of quarantine, and until when what they gave counts."""
    window_s: float = 3600.0
    kind_share: float = 0.03
    """The most that one rater may have of the weight in a kind of prompts, where a crowd rates it."""
    kind_votes: float = 5.0
    """Weight that a rater may always have in a kind of prompts."""
    burst_votes: int = 30
    """More judgements of one rater within `burst_s` than this are put in quarantine."""
    burst_s: float = 30.0
    prior_reliability: float = 0.85
    """The reliability expected of a newcomer, whose taste is not everyone's."""
    prior_votes: float = 8.0
    """How many judgements of evidence the prior stands for."""
    prior_votes_of_kind: float = 8.0
    """How many judgements of a kind of prompts the rater's reliability in all kinds stands for."""
    floor: float = 0.05

    def window_of(self, time: float) -> int:
        return math.floor(time / self.window_s)

    @property
    def crowd(self) -> int:
        """Raters of a kind of prompts, from which on none of them has more than their share."""
        return round(1 / self.kind_share)
