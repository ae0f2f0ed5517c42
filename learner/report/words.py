"""The report in sentences: a verdict, and what each figure means. Pure functions over `Report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from burnish.learner.report.figures import Discrimination, Rate, Report, Verdict
from burnish.learner.report.versions import FLOOR

LENGTHENED = 0.1  # of the length, that is worth a sentence
WEAK = 0.6  # an AUROC that would still be of little use
DONE = {"followup": "followed up"}  # of a signal, as people say it
HEADLINES: Mapping[Verdict, str] = {
    "learning": "Yes: people like the latest versions more than the first.",
    "worse": "No: people like the latest versions less than the first.",
    "nothing to learn": "No: nothing can be learned from these votes.",
    "not shown": "Not shown: these votes tell no difference between the first version and the latest.",
    "too few votes": "Too early to say: too few votes.",
}


def verdict(report: Report) -> Verdict:
    if report.is_noise or one_sided(report):
        return "nothing to learn"
    if report.comparison is None:
        return "too few votes"
    outcomes: dict[str, Verdict] = {"more": "learning", "less": "worse"}
    return outcomes.get(report.comparison.outcome, "not shown")


def one_sided(report: Report) -> bool:
    """Whether there are enough votes, and all of them are the same."""
    liked = report.liked
    return liked is not None and liked.count >= FLOOR and liked.share in (0.0, 1.0)


def findings(report: Report) -> list[str]:
    """A sentence or two for each figure, the most telling first."""
    return [
        *_compared(report),
        *_discriminated(report),
        *_foreseen(report),
        *_drifted(report),
        *_skilled(report),
        *_signalled(report),
        *_followed_up(report),
        *_commented(report),
        *_held_back(report),
    ]


def _compared(report: Report) -> Iterator[str]:
    found = report.comparison
    if found is None:
        told = ", ".join(
            f"{v.liked.count:.0f} on version {v.version}" for v in report.versions if v.liked
        )
        yield (
            f"Too few votes to compare versions, which takes {FLOOR} on the first and on later ones:"
            f" {told or 'none yet'}."
        )
        return
    latest, first = named(found.latest), f"version {found.first}"
    be = "is" if len(found.latest) == 1 else "are"
    shares = (
        f"{rate(found.now)} against {rate(found.before)}, a difference of"
        f" {points(found.now.share - found.before.share)} (interval {_ends(found.low, found.high)})"
    )
    if found.outcome == "no difference":
        yield f"{latest} {be} liked as {first} is, as far as these votes tell: {shares}."
    else:
        yield f"{latest} {be} liked {found.outcome} than {first}: {shares}."


def _discriminated(report: Report) -> Iterator[str]:
    found = report.discrimination
    if one_sided(report) and report.liked is not None:
        said = "up" if report.liked.share else "down"
        yield (
            f"Nothing can be learned from these votes: all {report.votes:.0f} say {said}, so nothing tells"
            " a better answer from a worse one."
        )
        return
    if found.auroc is None:
        if found.why_not is not None:
            yield f"Whether votes foretell those of other people is not known: {found.why_not}."
        return
    told = (
        "of a liked and a disliked answer, judged by people it was not fitted to, the reward model puts"
        f" the liked one first {percent(found.auroc)} of the time"
    )
    if found.low is None or found.high is None:
        yield (
            f"Votes and other people's: {told} (guessing: 50 %), but {found.people} people are too few to"
            " say how sure that is."
        )
    elif report.is_noise:
        yield (
            f"Nothing can be learned from these votes: {told} ({span(found.low, found.high)}), and guessing"
            f" is right half the time. {_why_noise(found)}"
        )
    elif found.is_guessing:
        yield (
            f"That votes foretell those of other people is not shown yet: {told} ({span(found.low, found.high)};"
            f" guessing: 50 %). They are learnt from meanwhile, at {percent(report.preference_weight or 0.0)} of their"
            " weight."
        )
    else:
        yield f"Votes foretell those of other people: {told} ({span(found.low, found.high)}; guessing: 50 %)."


def _why_noise(found: Discrimination) -> str:
    counts = f"{found.liked} likes and {found.disliked} dislikes of {found.people} people"
    if found.high is not None and found.high >= WEAK:
        return f"A weak preference may be hidden in them: {counts} are too few to show it."
    return (
        f"With {counts} a shared preference would show: people judge at random, want opposite things, or"
        " judge what is not in the answer, such as its speed."
    )


def _foreseen(report: Report) -> Iterator[str]:
    """Of the latest version, and of all of which too much was foreseen."""
    if report.discrimination.is_guessing:
        return  # who guesses foresees only how often people like anything
    told_of = [v for v in reversed(report.versions) if v.foreseen is not None]
    for version in told_of:
        found = version.foreseen
        if found is None or not (found.above or version is told_of[0]):
            continue
        told = (
            f"of version {version.version} a reward model fitted to earlier votes foresaw"
            f" {percent(found.foreseen)} likes, people gave {percent(found.observed)} of {found.votes:.0f}"
        )
        if found.low is None or found.high is None:
            yield f"Foreseen and observed: {told}; {found.people} people are too few for an interval."
        elif found.above:
            yield (
                f"Reward hacking: {told}. The gap of {points(found.gap)} (interval"
                f" {_ends(found.low, found.high)}) is more than chance: the policy has learnt what the reward model"
                " likes and people do not, or people have become stricter."
            )
        else:
            yield f"No sign of reward hacking: {told}."


def _drifted(report: Report) -> Iterator[str]:
    judged = [v for v in report.versions if v.answers >= FLOOR]
    if len(judged) < 2:
        return
    first, latest = judged[0], judged[-1]
    for what, old, new in (
        ("refuse", first.refusals, latest.refusals),
        ("end in a question", first.questions, latest.questions),
    ):
        if old is None or new is None or not (new.above(old) or old.above(new)):
            continue
        more = "more" if new.above(old) else "less"
        yield (
            f"Answers of version {latest.version} {what} {more} often than those of version"
            f" {first.version}: {rate(new)} against {rate(old)}."
        )
    if first.tokens and latest.tokens and abs(latest.tokens / first.tokens - 1) > LENGTHENED:
        yield (
            f"Answers of version {latest.version} have {latest.tokens:.0f} tokens, those of version"
            f" {first.version} {first.tokens:.0f}."
        )


def _skilled(report: Report) -> Iterator[str]:
    measured = [v for v in report.versions if v.skill is not None]
    if measured and report.base_skill is not None and measured[-1].skill is not None:
        latest = measured[-1]
        moved = (
            "" if latest.kl is None else f"; it is {latest.kl:.3f} nats per token away from it (KL)"
        )
        yield (
            f"At the gate version {latest.version} had {percent(latest.skill or 0.0)} of the tasks right,"
            f" the base {percent(report.base_skill)}{moved}."
        )


def _signalled(report: Report) -> Iterator[str]:
    for signal in report.signals:
        if signal.judged < FLOOR:
            continue
        done = DONE.get(signal.name, signal.name)
        yield (
            f"Answers that were {done} are liked {percent(signal.liked)} of the time (of {signal.judged:.0f} that"
            f" people judged as well), others {percent(signal.otherwise)}: where nobody judges that counts as"
            f" {signal.weight:.2f} of a vote."
        )


def _followed_up(report: Report) -> Iterator[str]:
    if report.followup_auroc is None:
        return
    told = (
        "what people said next tells a liked answer from a disliked one"
        f" {percent(report.followup_auroc)} of the time (guessing: 50 %)"
    )
    if report.followup_weight:
        yield (
            f"Next turns: {told}; where nobody judges it counts as up to {report.followup_weight:.2f} of a vote."
        )
    else:
        yield f"Next turns: {told}, which may be chance, so it counts nowhere."


def _commented(report: Report) -> Iterator[str]:
    if report.teacher_gap is None:
        return
    learnt = (
        "so that is learnt"
        if report.teacher_on
        else "which may be chance or too few prompts, so nothing is learnt from them"
    )
    yield (
        "Comments: told what people said of its failures, the policy answers so that the reward model expects"
        f" {points(report.teacher_gap)} more of likes, {learnt}."
    )


def _held_back(report: Report) -> Iterator[str]:
    if report.quarantined:
        yield f"{report.quarantined} votes are in quarantine and count nowhere here."


def named(versions: Sequence[int]) -> str:
    """Version 7; Versions 5 to 7."""
    if len(versions) == 1:
        return f"Version {versions[0]}"
    return f"Versions {versions[0]} to {versions[-1]}"


def rate(found: Rate) -> str:
    return f"{percent(found.share)} of {found.count:.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def span(low: float, high: float) -> str:
    return f"interval {_ends(low, high)} %"


def points(share: float) -> str:
    shown = f"{100 * share:.0f}"
    return f"{shown} point{'' if shown in ('1', '-1') else 's'}"


def _ends(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f}"
