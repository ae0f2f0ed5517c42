"""The report as it is kept and sent: figures per version, how they compare, sentences and advice.

Shares and log-likelihoods are plain numbers here; words.py says them. Left out: anything about a single
person, since whoever may ask the learner may read this.
"""

from __future__ import annotations

from typing import Literal

from burnish.learner.report.statistics import Interval, newcombe, wilson
from pydantic import BaseModel, ConfigDict

Verdict = Literal["learning", "worse", "nothing to learn", "not shown", "too few votes"]


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rate(_Figures):
    """A share of `count`, with Wilson's interval. A session's vote counts by its part in each answer,
    so votes need not be a whole number."""

    share: float
    low: float
    high: float
    count: float

    @classmethod
    def of(cls, successes: float, count: float) -> Rate | None:
        """None of nothing."""
        if count <= 0:
            return None
        low, high = wilson(successes, count)
        return cls(share=successes / count, low=low, high=high, count=round(count, 3))

    def minus(self, other: Rate) -> Interval:
        """The interval of how much higher this one is."""
        return newcombe((self.low, self.high), (other.low, other.high), self.share, other.share)

    def above(self, other: Rate) -> bool:
        """Whether it is higher by more than chance."""
        return self.minus(other)[0] > 0


class Foreseen(_Figures):
    """What a reward model fitted to earlier votes foresees of a version's answers, beside what people
    said of them. `gap` is foreseen minus observed; its interval is None where too few people voted."""

    foreseen: float
    observed: float
    gap: float
    low: float | None = None
    high: float | None = None
    votes: float
    people: int
    fitted_to: int  # judged answers

    @property
    def above(self) -> bool:
        return self.low is not None and self.low > 0


class VersionFigures(_Figures):
    """`liked` over votes; the style of its judged answers; of its update the gate's skill and KL to the
    base, nats per token. `unforeseen` says why `foreseen` is missing."""

    version: int
    liked: Rate | None = None
    enough: bool = False
    people: int = 0
    foreseen: Foreseen | None = None
    unforeseen: str | None = None
    answers: int = 0
    without_features: int = 0
    tokens: float | None = None
    refusals: Rate | None = None
    questions: Rate | None = None
    gate_passed: bool | None = None
    skill: float | None = None
    kl: float | None = None


class Discrimination(_Figures):
    """Whether a reward model tells what people like from what they do not, for people it was not fitted
    to: the AUROC over `pairs` of held-out votes. `why_not` says why it is missing."""

    auroc: float | None = None
    low: float | None = None
    high: float | None = None
    liked: int = 0
    disliked: int = 0
    people: int = 0
    folds: int = 0
    without_features: int = 0
    why_not: str | None = None

    @property
    def is_guessing(self) -> bool:
        """Nothing says that it is better than chance."""
        return self.low is not None and self.low <= 0.5


class Comparison(_Figures):
    """The first version with enough votes beside the latest ones, pooled until they have many. `low` and
    `high` bound the difference of their shares, now minus before."""

    first: int
    latest: list[int]
    before: Rate
    now: Rate
    low: float
    high: float
    outcome: Literal["more", "less", "no difference"]


class SignalFigures(_Figures):
    """What people did in passing, beside what they say: of `judged` answers with the signal P(liked) is
    `liked`, of those without `otherwise`. It counts as `weight` of a vote where nobody has judged."""

    name: str
    judged: float
    liked: float
    otherwise: float
    weight: float


class Advice(_Figures):
    """What would help: the rule's name, and it as a sentence or two."""

    name: str
    says: str


class Report(_Figures):
    """All of it. `votes` are of `answers` judged answers, the latest of them all. `busiest` is the
    largest share of the votes by one named person, `anonymous` the share of votes that name nobody;
    `followup_auroc` how well the last update told likes from dislikes by what people said next,
    `followup_weight` how far that counts. `teacher_gap` is how much better its reward model liked what the
    policy says once it is told people's comments; `teacher_on` says that this was learnt. `preference_weight`: how
    far it learnt from votes, in [0, 1]."""

    policy: str
    at: float
    state: str
    fitted_at: float | None = None
    answers: int = 0
    votes: float = 0.0
    people: int = 0
    liked: Rate | None = None
    busiest: float = 0.0
    anonymous: float = 0.0
    corrections: int = 0
    signals: list[SignalFigures] = []
    preference_weight: float | None = None
    followup_auroc: float | None = None
    followup_weight: float | None = None
    teacher_gap: float | None = None
    teacher_on: bool = False
    quarantined: int = 0
    updates: int = 0
    refused: int = 0
    refusal: str | None = None
    base_skill: float | None = None
    tasks: int | None = None
    rehearsal_skill: float | None = None
    last_update: str | None = None
    versions: list[VersionFigures] = []
    comparison: Comparison | None = None
    discrimination: Discrimination = Discrimination()
    verdict: Verdict = "too few votes"
    findings: list[str] = []
    advice: list[Advice] = []

    @property
    def is_noise(self) -> bool:
        """Votes foretell nobody else's, and the last update, if there was one, did not learn from them either."""
        return self.discrimination.is_guessing and not self.preference_weight

    def of_version(self, version: int) -> VersionFigures | None:
        return next((v for v in self.versions if v.version == version), None)
