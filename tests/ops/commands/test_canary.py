"""`burnish canary`: the API's account of a canary, as a person reads it."""

from __future__ import annotations

from io import StringIO
from typing import Any

from burnish.learner.canary.evidence import Evidence, Observation
from burnish.learner.canary.figures import figures_of
from burnish.learner.canary.settings import CanarySettings
from burnish.ops.commands.canary import tell
from rich.console import Console


def printed(told: dict[str, Any]) -> str:
    out = StringIO()
    tell(told, Console(file=out, width=100))
    return out.getvalue()


def test_a_canary_that_runs_is_told_with_both_arms():
    settings, evidence = CanarySettings(), Evidence(CanarySettings())
    evidence.add(Observation("thumbs", "challenger", 1.0))
    evidence.add(Observation("thumbs", "champion", 0.0))
    evidence.add(Observation("tokens", "champion", 32.0))
    last = {
        "policy": "default",
        "version": 7,
        "champion": 6,
        "figures": figures_of(settings, evidence),
    }
    text = printed(
        {
            "policy": "default",
            "running": {"version": 7, "share": 0.1, "paused_by": "ada"},
            "says": "default@7 answers 10% of users: ada has paused it",
            "last": last,
        }
    )
    assert "default@7 answers 10% of users, paused by ada" in text
    assert "default@6" in text
    assert "32.000" in text
    assert "1 of up to 1525 pairs of voters" in text


def test_without_one_there_is_a_sentence():
    says = "no version of 'default' is tried on a share of users"
    text = printed({"policy": "default", "running": None, "says": says, "last": None})
    assert text == f"{says}\n"
