"""What would help most: rules over the report, in the order in which one should see to them.

What keeps anything from being learnt comes first, then what misleads, then what would add. Pure functions;
a new rule is a function here and a line in RULES.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from burnish.learner.report.figures import Advice, Report
from burnish.learner.report.statistics import FEWEST_PEOPLE, Z
from burnish.learner.report.versions import FLOOR
from burnish.learner.report.words import one_sided, percent, points

SHOWN = 5
MOST = 0.95  # share of one kind of vote that leaves too few of the other
HALF = 0.5
SOLVED = 0.98
WORTH_SHOWING = 0.1  # a difference in the share of likes
# Votes on each side that show it in four cases of five, where half of them are likes.
ENOUGH = math.ceil((Z + 0.8416) ** 2 / 2 / WORTH_SHOWING**2 / 100) * 100


def advise(report: Report) -> list[Advice]:
    """The first few that apply."""
    found = [Advice(name=name, says=said) for name, rule in RULES.items() if (said := rule(report))]
    return found[:SHOWN]


def _no_votes(report: Report) -> str | None:
    if report.votes:
        return None
    return (
        "No vote has met an answer yet. Send POST /v1/feedback with the completion's id as"
        " `interaction_id`; `burnish status` tells of judgements that met none."
    )


def _quarantine(report: Report) -> str | None:
    if report.quarantined <= 0.2 * (report.quarantined + report.votes):
        return None
    return (
        f"{report.quarantined} votes are in quarantine: somebody voted faster than people read. If that"
        " was a script of yours, give each person a `user` of their own."
    )


def _one_sided(report: Report) -> str | None:
    if report.liked is None or report.liked.count < FLOOR:
        return None
    share = report.liked.share
    if 1 - MOST < share < MOST:
        return None
    kind, other = ("up", "down") if share > HALF else ("down", "up")
    votes = "All" if one_sided(report) else f"{percent(max(share, 1 - share))} of the"
    return (
        f"{votes} votes say {kind}, and learning needs both. Make a thumbs-{other} as easy to give, and ask"
        " for a vote now and then instead of waiting for one."
    )


def _few_votes(report: Report) -> str | None:
    found = report.comparison
    if not report.votes or (found is not None and found.outcome != "no difference"):
        return None
    if found is None:
        return f"More votes: {report.votes:.0f} so far. Each version needs {FLOOR} to be looked at."
    if min(found.before.count, found.now.count) >= ENOUGH:
        return None
    return (
        f"More votes: {found.before.count:.0f} on version {found.first} and {found.now.count:.0f} on the latest"
        f" tell a difference to within {points((found.high - found.low) / 2)}. To show one of"
        f" {points(WORTH_SHOWING)} takes some {ENOUGH} on each side."
    )


def _noise(report: Report) -> str | None:
    if not report.is_noise:
        return None
    return (
        "Look at how votes are given: no shared preference shows in them. Ask one plain question at the"
        " answer itself, and read some liked and disliked answers side by side (`burnish export`): if you"
        " cannot tell them apart, no model can."
    )


def _foreseen_above(report: Report) -> str | None:
    hacked = [v for v in report.versions if v.foreseen is not None and v.foreseen.above]
    if not hacked or report.discrimination.is_guessing:
        return None
    return (
        f"Read answers of version {hacked[-1].version}: the reward model thinks more of them than people do."
        " If they have a trick in common, `burnish rollback`; a larger BURNISH_KL_WEIGHT keeps the policy"
        " closer to the base."
    )


def _gate(report: Report) -> str | None:
    if not report.refused or report.refused < HALF * report.updates:
        return None
    why = f" The last time: {report.refusal}." if report.refusal else ""
    return (
        f"The gate refused {report.refused} of the last {report.updates} versions, so their learning does"
        f" not reach people.{why} A smaller BURNISH_LEARNING_RATE moves the policy less in each update."
    )


def _few_people(report: Report) -> str | None:
    if report.busiest > HALF:
        return (
            f"One person gave {percent(report.busiest)} of the votes: what is learnt is their taste. Votes"
            " of others weigh most now."
        )
    if 0 < report.people < FEWEST_PEOPLE:
        return (
            f"The votes are of {report.people} people: nothing says that others would agree. Intervals over"
            f" people take {FEWEST_PEOPLE}."
        )
    return None


def _anonymous(report: Report) -> str | None:
    if report.anonymous <= HALF:
        return None
    return (
        f"{percent(report.anonymous)} of the votes name nobody, so one person who votes often looks like"
        " many. Send `user` with the chat or with the vote."
    )


def _tasks(report: Report) -> str | None:
    if report.tasks == 0:
        return "No task can be asked of this model, so the gate tests nothing: name a pack in BURNISH_TASKS."
    if report.base_skill == 0:
        return "The base solves none of the gate's tasks, so there is no skill to lose: add easier ones."
    if (report.rehearsal_skill or 0.0) >= SOLVED:
        return (
            "All rehearsed tasks are solved, so they neither teach nor hold anything back: add harder ones"
            " to BURNISH_TASKS."
        )
    return None


def _features(report: Report) -> str | None:
    missing = sum(version.without_features for version in report.versions)
    if missing <= HALF * report.answers:
        return None
    return (
        f"{missing} of {report.answers} judged answers were read by no update yet, or are too long for it"
        " (BURNISH_MAX_PROMPT_TOKENS, BURNISH_MAX_ANSWER_TOKENS): they teach nothing so far."
    )


def _corrections(report: Report) -> str | None:
    if report.corrections or report.votes < FLOOR:
        return None
    return (
        "Nobody has sent a correction. It says what an answer should have been, where a thumb only says that"
        " something was wrong: let people edit an answer they dislike."
    )


RULES: dict[str, Callable[[Report], str | None]] = {
    "no_votes": _no_votes,
    "quarantine": _quarantine,
    "one_sided": _one_sided,
    "noise": _noise,
    "foreseen_above_observed": _foreseen_above,
    "gate_refuses": _gate,
    "few_votes": _few_votes,
    "few_people": _few_people,
    "anonymous": _anonymous,
    "features_missing": _features,
    "tasks": _tasks,
    "no_corrections": _corrections,
}
