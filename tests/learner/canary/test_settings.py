"""A canary's settings: defaults, a file over them, by policy."""

from __future__ import annotations

import pytest
from burnish.learner.canary.settings import CanarySettings, CanarySettingsError, read_settings


def test_without_a_file_the_defaults_hold():
    assert read_settings(None, "default") == CanarySettings()


def test_a_policy_goes_before_what_is_said_of_all(tmp_path):
    file = tmp_path / "canary.yaml"
    file.write_text('"*":\n  hours: 12\n  users: 300\nshop:\n  hours: 2\n')
    shop, other = read_settings(file, "shop"), read_settings(file, "default")
    assert (shop.hours, shop.users) == (2, 300)
    assert (other.hours, other.users) == (12, 300)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shop:\n  hour: 2\n", "hour is no setting"),
        ("shop:\n  shares: [0.2, 0.1]\n", "shares must grow"),
        ("shop:\n  shares: [0.6]\n", "shares.0"),
        ("shop:\n  tokens: [0.1, 2]\n", "tokens must be"),
        ("shop: 3\n", "write `POLICY:`"),
        ("[]", "write `POLICY:`"),
        ("shop: {", "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, told):
    file = tmp_path / "canary.yaml"
    file.write_text(text)
    with pytest.raises(CanarySettingsError, match=told):
        read_settings(file, "shop")
