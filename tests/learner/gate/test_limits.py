"""The YAML of limits: over the settings, and refused with the field where it is wrong."""

from pathlib import Path

import pytest
from burnish.learner.gate.limits import GateLimits, LimitsError, read_limits


def test_without_a_file_the_settings_are_the_limits():
    assert read_limits(None, skill_margin=0.03) == GateLimits(skill_margin=0.03)


def test_the_file_goes_before_the_settings(tmp_path: Path):
    file = tmp_path / "gate.yaml"
    file.write_text("skill_margin: 0.01\nlength: [0.5, 2]\n")
    limits = read_limits(file, skill_margin=0.03, max_kl=0.7)
    assert (limits.skill_margin, limits.length, limits.max_kl) == (0.01, (0.5, 2.0), 0.7)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("skil_margin: 0.1", "skil_margin is no limit: there are skill_margin, "),
        ("skill_margin: 2", "skill_margin: Input should be less than or equal to 1"),
        ("length: 3", "length: "),
        ("- 1", "write a line"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, told: str):
    file = tmp_path / "gate.yaml"
    file.write_text(text)
    with pytest.raises(LimitsError, match=r"gate\.yaml") as caught:
        read_limits(file)
    assert told in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(LimitsError, match="cannot be read"):
        read_limits(tmp_path / "none.yaml")
