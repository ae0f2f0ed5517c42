"""Options of a simulation: one frozen dataclass, which results.json repeats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class SimulateError(Exception):
    """Root of the errors of burnish.ops.simulate."""


class BadOption(SimulateError, ValueError):
    """An option outside its range; the message names it."""


@dataclass(frozen=True)
class Options:
    """Shares are in [0, 1]; times are in seconds unless the name says minutes."""

    url: str = "http://127.0.0.1:8080"
    key: str = "burnish"
    model: str = "default"
    minutes: float = 15.0
    answers: int = 0  # end the live phase after so many; 0: by time alone
    users: int = 50
    concurrency: int = 8
    rate: float = 20.0  # chats a second over all workers; 0: as fast as the service answers
    seed: int = 0
    flip: float = 0.2  # probability that an honest thumb hits the wrong button
    judged: float = 0.3  # share of answers that an honest user judges
    deviate: float = 0.1  # share of (user, family) pairs that prefer another style than most
    malicious: float = 0.04  # share of users who invert or spam
    retract: float = 0.02  # share of votes retracted later
    late: float = 0.1  # share of votes sent long after the answer
    late_s: float = 45.0  # mean delay of late votes
    shadow: float = 0.1  # share of prompts also sent to the frozen base
    max_tokens: int = 192
    temperature: float = 1.0
    timeout_s: float = 120.0
    settle_s: float = 180.0  # longest wait for the learner to become idle
    prompts: int = 1800  # held-out prompts of the final paired evaluation; 0: none
    eval_concurrency: int = 24
    out: Path = Path(".burnish/simulate")

    def __post_init__(self) -> None:
        for name in ("flip", "judged", "deviate", "malicious", "retract", "late", "shadow"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise BadOption(f"--{name} must lie between 0 and 1, got {getattr(self, name)}")
        for name in ("users", "concurrency", "eval_concurrency", "max_tokens"):
            if getattr(self, name) < 1:
                raise BadOption(f"--{name.replace('_', '-')} must be at least 1")
        if self.minutes < 0 or self.prompts < 0:
            raise BadOption("--minutes and --prompts cannot be negative")

    @property
    def base(self) -> str:
        """Model name of the frozen base: version 1 of the policy, which has no adapter."""
        return f"{self.policy}@1"

    @property
    def policy(self) -> str:
        return self.model.partition("@")[0]
