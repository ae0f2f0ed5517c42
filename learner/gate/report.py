"""The gate's report: its checks, their bounds and the figures behind them; stored with the version."""

from __future__ import annotations

from pydantic import BaseModel


class Check(BaseModel):
    """One check: `value` must lie in [low, high], where these are set; `says` is it as a sentence."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    passed: bool
    says: str


class GateReport(BaseModel):
    """What a candidate did on the suite. `skill` is the share of tasks right; `seconds` wall time."""

    passed: bool
    base_sha256: str
    suite: str
    tasks: int
    seconds: float
    checks: list[Check]
    skill: float
    base_skill: float
    families: dict[str, tuple[float, float]]  # share right: base, candidate

    def with_check(self, check: Check) -> GateReport:
        """The same with one more check, which must pass too."""
        return self.model_copy(
            update={"checks": [*self.checks, check], "passed": self.passed and check.passed}
        )

    @property
    def why_not(self) -> str | None:
        """The checks that failed, as sentences."""
        failed = [check.says for check in self.checks if not check.passed]
        return "; ".join(failed) or None
