"""The numbers that trust goes by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrustPolicy:
    user_votes: float = 200.0
    """Weight that one rater's judgements may have in a window, all together."""
    anonymous_share: float = 0.25
    """The most that judgements by nobody named may have of their API key's weight in a window."""
    key_share: float = 0.5
    """The most that one API key may have of its tenant's weight in a window."""
    tenant_share: float = 0.5
    """The most that one tenant may have of all weight in a window."""
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

    @property
    def crowd(self) -> int:
        """Raters of a kind of prompts, from which on none of them has more than their share."""
        return round(1 / self.kind_share)
