"""What may change, and a file of one's own."""

import pytest
from burnish.learner.alarms.limits import AlarmLimits, read_limits
from burnish.learner.gate.limits import LimitsError


def test_a_file_goes_before_the_defaults(tmp_path):
    file = tmp_path / "alarms.yaml"
    file.write_text("refusals: 0.2\nlength: [0.7, 1.3]\n")
    found = read_limits(file)
    assert (found.refusals, found.length) == (0.2, (0.7, 1.3))
    assert found.kl == AlarmLimits().kl


@pytest.mark.parametrize(
    ("text", "why"), [("refusal: 0.2", "refusal is no limit"), ("kl: -1", "kl: ")]
)
def test_a_line_that_means_nothing_is_named(tmp_path, text, why):
    file = tmp_path / "alarms.yaml"
    file.write_text(text)
    with pytest.raises(LimitsError, match=why):
        read_limits(file)
