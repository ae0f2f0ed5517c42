"""What may change before an alarm opens: the defaults, and a YAML file over them."""

from __future__ import annotations

from pathlib import Path

from burnish.learner.gate.limits import Ratio, Share, read_yaml
from pydantic import BaseModel, ConfigDict, Field


class AlarmLimits(BaseModel):
    """Shares are of answers, votes or prompts; a limit says how much more of it is too much against the versions
    before. An alarm opens where it is surely passed, and closes where it surely is not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    foreseen: Share = Field(default=0.1, description="foreseen likes above those observed")
    tool_failures: Share = Field(default=0.05, description="more of the tool calls that fail")
    questions: Share = Field(default=0.1, description="more answers that ask back")
    refusals: Share = Field(default=0.05, description="more answers that refuse")
    length: Ratio = Field(default=(0.5, 1.6), description="mean length by that before")
    entropy: Share = Field(default=0.5, description="least entropy per token by that before")
    kl: float = Field(default=0.45, gt=0, description="nats per token to the base, in training")
    opener: Share = Field(default=0.2, description="more answers that begin with one phrase")
    prompts: Share = Field(default=0.2, description="more prompts of any one kind")
    tastes: Share = Field(
        default=0.08, description="larger mean square of what votes differ by from what is foreseen"
    )
    alpha: float = Field(
        default=0.001,
        gt=0,
        lt=0.5,
        description="chance that an alarm opens over `epoch` answers in which nothing changed",
    )
    epoch: int = Field(
        default=500, ge=50, description="answers, votes or prompts that are looked at together"
    )
    reference: int = Field(
        default=1000, ge=50, description="latest answers of versions before that they are held to"
    )
    fewest: int = Field(default=50, ge=1, description="on either side, below which nothing is said")


def read_limits(file: Path | None) -> AlarmLimits:
    """The defaults, over them what the YAML file says. Raises LimitsError."""
    return read_yaml(AlarmLimits, file)
