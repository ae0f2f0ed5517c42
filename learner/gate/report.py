"""The gate's report: its checks, their bounds and the figures behind them; stored with the version."""

from __future__ import annotations

from pydantic import BaseModel


class Check(BaseModel):
    """One check: `value` must lie in [low, high], where these are set; `says` is it as a sentence.

    Where the burden of proof is the candidate's, `bounds` is the confidence interval that must clear
    `low`, and an undecided check has not passed.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    passed: bool
    says: str
    bounds: tuple[float, float] | None = None
    undecided: bool = False


class GateReport(BaseModel):
    """What a candidate did at the gate. `skill` is the share of tasks right, families alike; `tasks` the
    suite's first look, `asked` how many each family came to, `answers` how many were sampled for it, `seconds`
    wall time."""

    passed: bool
    base_sha256: str
    suite: str
    tasks: int
    seconds: float
    checks: list[Check]
    skill: float
    base_skill: float
    families: dict[str, tuple[float, float]]  # share right: base, candidate
    asked: dict[str, int] = {}
    answers: int = 0
    notes: list[str] = []

    def with_checks(self, *checks: Check) -> GateReport:
        """The same with more checks, which must pass too."""
        passed = self.passed and all(check.passed for check in checks)
        return self.model_copy(update={"checks": [*self.checks, *checks], "passed": passed})

    @property
    def why_not(self) -> str | None:
        """The checks that failed, as sentences; where something was lost, without what that left
        undecided."""
        failed = [check for check in self.checks if not check.passed]
        lost = [check for check in failed if not check.undecided]
        return "; ".join(check.says for check in lost or failed) or None
