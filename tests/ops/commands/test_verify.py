"""`burnish verify`: a line for each comparison, a verdict in one line, and an exit code."""

from pathlib import Path

import pytest
from burnish.kernels.verify import Comparison
from burnish.ops.commands import verify as report
from rich.console import Console

GOOD = Comparison("logits", 1e-5, 1e-3)
BAD = Comparison("greedy tokens", 0.5, 1e-3)
CHEAP = Comparison("int8: KL divergence", 0.01, 0.02, cost=True)
DEAR = Comparison("int8: KL divergence", 0.5, 0.02, cost=True)
SAME = "in 0 s: some/model computes here what transformers does"


@pytest.mark.parametrize(
    ("found", "code", "verdict"),
    [
        ([GOOD], 0, f"verified {SAME}"),
        ([GOOD, CHEAP], 0, f"verified {SAME}, and int8 costs it no more than is allowed"),
        ([GOOD, DEAR], 1, f"NOT verified {SAME}, but int8 costs it more than is allowed"),
        ([GOOD, BAD, DEAR], 1, "NOT verified in 0 s: some/model differs here in greedy tokens"),
    ],
)
def test_the_last_line_is_the_verdict(
    found: list[Comparison], code: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "verify", lambda *_, **__: iter(found))
    console = Console(width=200, record=True)
    done = report.run(console, Path("some/model"), "int8", "auto", rows=1, length=8, tolerance=1e-3)
    lines = console.export_text().rstrip().splitlines()
    assert done == code
    assert lines[-1] == verdict
    assert len(lines) == len(found) + 1
