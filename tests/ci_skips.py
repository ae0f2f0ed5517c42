"""Skip policy: with CI=true a test may skip only for a reason listed here; any other skip fails.

A pytest plugin, loaded by tests/conftest.py. The run lists its skips with their reasons at the end
(`-rs` in pyproject.toml).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

# What continuous integration cannot provide, and how the reasons of such skips begin.
ALLOWED = {
    "a GPU": r"Triton's interpreter has no bfloat16",
    "a vLLM server": r"BURNISH_TEST_VLLM_URL|a server on another grammar backend",
    "root, to mount a file system": r"a small file system could not be mounted",
    "helm, which only a recent Go builds": r"helm is not installed",
    "Prometheus": r"(promtool|Prometheus) is not installed",
    "an x86-64 processor": r"needs an x86-64 compiler",
    "a Docker Engine": r"no Docker Engine answers|images of ops/compose.yaml that are not here",
    "an optional extra": r"extra not installed",
    "the clients, which `make test-clients` brings": r"the clients are not installed",
}


def needs(reason: str) -> str | None:
    """What a test that skips for this reason needs and CI lacks; None: CI should have run it."""
    reason = reason.removeprefix("Skipped: ")
    return next((what for what, start in ALLOWED.items() if re.match(start, reason)), None)


def _fail_unexpected_skip(report: Any) -> None:
    """Turn the report of a skip outside the policy into a failure."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    path, line, reason = report.longrepr
    if needs(reason) is None:
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: a skip that CI does not allow: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_unexpected_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_unexpected_skip(report)
    return report
