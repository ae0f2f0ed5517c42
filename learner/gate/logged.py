"""Checks on prompts that people asked: KL, what they would think of the answers, and harm to any cohort.

Candidate, champion and base answer the same logged prompts with the same seeds. Prompts and answers are
people's: nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from burnish.learner.gate.answers import CANDIDATE, Panel
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.manner import kl_to_base
from burnish.learner.gate.preference import Change, at_equal_length, by_cohort, cohorts, left_out
from burnish.learner.gate.report import Check
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import LoggedPrompt
from burnish.learner.reward.fitting import FittedReward
from burnish.learner.training.rollouts import Rollout
from burnish.serving.reward.features import base_features
from torch import Tensor

PROMPTS = 96
FEWEST_PROMPTS = 16  # of which anything is said
ONE_SIDED_95 = 1.645  # standard errors


@dataclass(frozen=True)
class Logged:
    """Prompts as they were asked, and the reward model with the votes that it is fitted to."""

    prompts: Sequence[LoggedPrompt]
    evidence: Evidence
    fitted: FittedReward


def check_logged(panel: Panel, logged: Logged, limits: GateLimits) -> list[Check]:
    """KL to the base, and the preference and its worst cohort beside each reference; none of it where
    hardly anything was asked. The panel is seated."""
    asked = [prompt for prompt in logged.prompts[:PROMPTS] if prompt.token_ids]
    if len(asked) < FEWEST_PROMPTS:
        return []
    rollouts = panel.answers_to([prompt.token_ids for prompt in asked])
    # An answer that ended at once has no features: its prompt is passed over.
    whole = [at for at in range(len(asked)) if all(of[at].token_ids for of in rollouts.values())]
    rollouts = {policy: [of[at] for at in whole] for policy, of in rollouts.items()}
    users = [asked[at].user for at in whole]
    checked = [_kl(panel, rollouts[CANDIDATE], limits)]
    if len(whole) < FEWEST_PROMPTS:
        return checked
    features = {
        policy: base_features(panel.model, [(r.prompt_ids, r.token_ids) for r in of])
        for policy, of in rollouts.items()
    }
    raters = logged.evidence.raters
    liked = {
        policy: left_out(logged.fitted, raters, of, users).tolist()
        for policy, of in features.items()
    }
    groups = cohorts(logged.fitted, raters)
    of_cohorts = {policy: by_cohort(logged.fitted, groups, of) for policy, of in features.items()}
    for reference in panel.references:
        lengths = [
            (len(a.token_ids), len(b.token_ids))
            for a, b in zip(rollouts[reference], rollouts[CANDIDATE], strict=True)
        ]
        change = at_equal_length(liked[reference], liked[CANDIDATE], lengths)
        checked.append(_preference(reference, change, limits))
        if groups:
            checked.append(_worst_cohort(reference, of_cohorts, groups, limits))
    return checked


def _kl(panel: Panel, rollouts: Sequence[Rollout], limits: GateLimits) -> Check:
    value = kl_to_base(panel.model, rollouts)
    says = (
        f"KL to the base on prompts that people asked is {value:.3f} nats per token (allowed:"
        f" {limits.max_kl:g})"
    )
    return Check(
        name="kl/logged", value=value, high=limits.max_kl, passed=value <= limits.max_kl, says=says
    )


def _preference(reference: str, change: Change, limits: GateLimits) -> Check:
    low, lower = -limits.preference, change.lower(ONE_SIDED_95)
    return Check(
        name=f"preference/{reference}",
        value=change.mean,
        low=low,
        passed=lower >= low,
        bounds=(lower, change.mean + ONE_SIDED_95 * change.error),
        says=f"foreseen thumbs, by other people's votes and at equal length, moved by {change.mean:+.3f}"
        f" against the {reference}, by {lower:+.3f} at least (allowed: {low:+.2f})",
    )


def _worst_cohort(
    reference: str,
    liked: Mapping[str, Tensor],
    groups: Sequence[Sequence[int]],
    limits: GateLimits,
) -> Check:
    """The cohort that may have lost most."""
    moved = liked[CANDIDATE] - liked[reference]  # [cohorts, prompts]
    count = moved.shape[1]
    changes = [
        Change(float(of.mean()), float(of.std()) / count**0.5 if count > 1 else 0.0) for of in moved
    ]
    at = min(range(len(changes)), key=lambda n: changes[n].lower(ONE_SIDED_95))
    worst, low = changes[at], -limits.cohort
    lower = worst.lower(ONE_SIDED_95)
    return Check(
        name=f"cohorts/{reference}",
        value=worst.mean,
        low=low,
        passed=lower >= low,
        bounds=(lower, worst.mean + ONE_SIDED_95 * worst.error),
        says=f"of {len(groups)} cohorts of users alike in taste the worst off (with {len(groups[at])} votes)"
        f" moved by {worst.mean:+.3f} foreseen thumbs against the {reference}, by {lower:+.3f} at least"
        f" (allowed: {low:+.2f})",
    )
