"""What a comparison showed, as a sentence."""

from typing import Any

import pytest
from burnish.learner.gate import checks
from burnish.learner.gate.checks import paired_difference
from burnish.learner.gate.comparison import Comparison, Line, Paired, Rates
from burnish.learner.gate.pooling import Seen


def comparison(**lines: tuple[float, float, float]) -> Comparison:
    """By line: its change, and its lower and upper bound."""

    def paired(change: float, lower: float, upper: float) -> Paired:
        bounds: Any = type("Fixed", (), {"lower": lower, "upper": upper})()
        return Paired(0.1, bounds, Seen(10, 10 * change, 10 * change**2))

    return Comparison(
        [Line(name, 0.1) for name in lines],
        {"base": paired(0.0, -0.05, 0.05)},
        {"base": {name: paired(*told) for name, told in lines.items()}},
        {name: Rates() for name in lines},
    )


def test_the_family_that_lost_most_is_named():
    found = comparison(units=(0.0, -0.05, 0.1), sorting=(-0.5, -0.7, -0.3), words=(0, -0.2, 0.2))
    check = checks.families(found, "base", ["units", "sorting", "words"], "families")
    assert (check.passed, check.undecided) == (False, False)
    assert check.says.startswith("sorting moved by -0.500 against the base, and surely by -0.300")


def test_undecided_is_not_passed_and_says_so():
    found = comparison(units=(0.0, -0.2, 0.1), sorting=(0.0, -0.3, 0.2))
    check = checks.families(found, "base", ["units", "sorting"], "families")
    assert (check.passed, check.undecided) == (False, True)
    assert "undecided, which does not pass" in check.says
    assert check.says.endswith("and so for units")


def test_skill_that_is_kept_tells_what_is_sure():
    check = checks.skill(comparison(units=(0.0, -0.05, 0.1)), "base")
    assert check.passed
    assert check.says == (
        "skill moved by +0.000 against the base, and surely by -0.050 at least (allowed: -0.10)"
    )


def test_paired_difference():
    assert paired_difference([True, True], [True, False]) == (-0.5, pytest.approx(0.3535, abs=1e-3))
