"""Checks on prompts that people asked: KL, what they would think of the answers, and harm to any cohort.

Candidate, champion and base answer the same logged prompts with the same seeds. A cohort is users alike in taste,
whose votes alone judge all answers, or the prompts of one tenant or language. Prompts and answers are
people's: nothing of them is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.answers import CANDIDATE, Panel
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.manner import kl_to_base
from burnish.learner.gate.preference import Change, at_equal_length, by_cohort, cohorts, left_out
from burnish.learner.gate.report import Check
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import LoggedPrompt
from burnish.learner.reward.fitting import FittedReward
from burnish.learner.tasks.general.manners import language_of
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
    people = [asked[at].person for at in whole]
    checked = [_kl(panel, rollouts[CANDIDATE], limits)]
    if len(whole) < FEWEST_PROMPTS:
        return checked
    features = {
        policy: base_features(panel.model, [(r.prompt_ids, r.token_ids) for r in of])
        for policy, of in rollouts.items()
    }
    raters = logged.evidence.raters
    askers = _askers(panel.model, [asked[at] for at in whole])
    liked = {
        policy: left_out(logged.fitted, raters, of, people).tolist()
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
        found = [
            (f"users alike in taste, with {len(group)} votes", _change(ours - theirs))
            for group, ours, theirs in zip(
                groups, of_cohorts[CANDIDATE], of_cohorts[reference], strict=True
            )
        ]
        moved = torch.tensor(liked[CANDIDATE]) - torch.tensor(liked[reference])
        found += [(f"{who}, with {len(at)} prompts", _change(moved[at])) for who, at in askers]
        if found:
            checked.append(_worst_cohort(reference, found, limits))
    return checked


def _askers(model: LoadedModel, prompts: Sequence[LoggedPrompt]) -> list[tuple[str, list[int]]]:
    """Who asked which prompts: tenants, and people of one language, each if there are several with prompts
    enough. A tenant is not named, since others may read the report."""
    kinds = {
        "a tenant": [prompt.tenant for prompt in prompts],
        "whoever writes in ": [_language(model, prompt.token_ids) for prompt in prompts],
    }
    found: list[tuple[str, list[int]]] = []
    for kind, labels in kinds.items():
        groups = {
            label: [at for at, other in enumerate(labels) if other == label]
            for label in dict.fromkeys(labels)
            if label
        }
        large = {label: at for label, at in groups.items() if len(at) >= FEWEST_PROMPTS}
        if len(large) > 1:
            told = kind.endswith(" ")
            found += [(kind + label if told else kind, at) for label, at in large.items()]
    return found


def _language(model: LoadedModel, token_ids: Sequence[int]) -> str | None:
    """Of the last message of which it can be told; messages end where special tokens stand."""
    text = str(model.tokenizer.decode(list(token_ids)))
    marks = "|".join(map(re.escape, model.tokenizer.all_special_tokens))
    said = re.split(marks, text) if marks else [text]
    return next((found for part in reversed(said) if (found := language_of(part))), None)


def _change(moved: Tensor) -> Change:
    count = len(moved)
    return Change(float(moved.mean()), float(moved.std()) / count**0.5 if count > 1 else 0.0)


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


def _worst_cohort(reference: str, found: Sequence[tuple[str, Change]], limits: GateLimits) -> Check:
    """The cohort that may have lost most."""
    who, worst = min(found, key=lambda cohort: cohort[1].lower(ONE_SIDED_95))
    low = -limits.cohort
    lower = worst.lower(ONE_SIDED_95)
    return Check(
        name=f"cohorts/{reference}",
        value=worst.mean,
        low=low,
        passed=lower >= low,
        bounds=(lower, worst.mean + ONE_SIDED_95 * worst.error),
        says=f"of {len(found)} cohorts by taste, tenant or language the worst off ({who}) moved by"
        f" {worst.mean:+.3f} foreseen thumbs against the {reference}, by {lower:+.3f} at least (allowed:"
        f" {low:+.2f})",
    )
