"""What a canary shows of itself: to people by CLI and API, and to Prometheus."""

from __future__ import annotations

from typing import Any

from burnish.learner.canary.decision import Decision
from burnish.learner.canary.evidence import METRICS, ArmName, Evidence
from burnish.learner.canary.settings import CanarySettings

ARMS: tuple[ArmName, ...] = ("challenger", "champion")


def figures_of(settings: CanarySettings, evidence: Evidence) -> dict[str, Any]:
    """By metric and arm the users and their mean; `change`: of the thumbs rate, with bounds that hold whenever one
    looks; `better`: how far the bet that people like the challenger better has come to its goal, 0 to 1."""
    means = [evidence.mean("thumbs", arm) for arm in ARMS]
    return {
        **{
            metric: {
                arm: {
                    "users": evidence.users(metric, arm),
                    "mean": _rounded(evidence.mean(metric, arm)),
                }
                for arm in ARMS
            }
            for metric in METRICS
        },
        "failed_users": dict(evidence.failed),
        "change": {
            "mean": None if None in means else _rounded((means[0] or 0.0) - (means[1] or 0.0)),
            "lower": _rounded(evidence.lower),
            "upper": _rounded(evidence.upper),
        },
        "compared": evidence.voters,
        "of": settings.users,
        "better": _rounded(min(1.0, evidence.better.capital * evidence.better.alpha)),
        "worse": list(evidence.worse),
    }


def sentence(ref: str, share: float, decided: Decision) -> str:
    match decided.action:
        case "withdraw":
            return f"withdrew {ref}: {decided.why}"
        case "promote":
            return f"promoted {ref}: {decided.why}"
        case "end":
            return f"ended the canary of {ref}: {decided.why}"
        case "ramp":
            return f"{ref} answers {decided.share:.0%} of users now: {decided.why}"
        case "hold":
            return f"{ref} answers {share:.0%} of users: {decided.why}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
