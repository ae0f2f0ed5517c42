"""How a policy's canary goes: the defaults, and a YAML file over them, by policy.

"*":                      # of every policy
  hours: 12
shop:
  shares: [0.1, 0.5]
  too_few: keep
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ALL = "*"
LARGEST_SHARE = 0.5  # the control arm is as large

Share = Annotated[float, Field(gt=0, le=LARGEST_SHARE)]


class CanarySettingsError(ValueError):
    """A file of settings that cannot be used: where, and why."""


class CanarySettings(BaseModel):
    """Shares are of end users; the control arm, which the champion answers, is as large."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shares: tuple[Share, ...] = Field(
        default=(0.05, 0.1, 0.25, 0.5), min_length=1, description="steps of the ramp, growing"
    )
    at_stake: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="share of all thumbs that may be lost at a step, if the challenger is as bad as the"
        " evidence still allows",
    )
    users: int = Field(
        default=1525,
        ge=20,
        description="voters of each arm after which the comparison ends; as many find five points in"
        " four of five cases",
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="chance that a challenger that is no better is promoted, or one that is no worse"
        " withdrawn",
    )
    signals: float = Field(
        default=0.05, ge=0, lt=1, description="share of good signals that may be lost"
    )
    seconds: float = Field(
        default=1.25,
        ge=1,
        lt=4,
        description="times as long as the champion's that answers may take",
    )
    tokens: tuple[float, float] = Field(
        default=(0.6, 1.67), description="times as many tokens as the champion's answers have"
    )
    hours: float = Field(default=6.0, gt=0, description="after which too few votes count as such")
    too_few: Literal["gate", "keep"] = Field(
        default="gate",
        description="what then happens: `gate`, its verdict counts and the challenger is promoted;"
        " `keep`, the champion stays",
    )
    undecided: Literal["gate", "keep"] = Field(
        default="keep", description="the same where `users` voted and neither is surely better"
    )
    shadow: int = Field(
        default=0,
        ge=0,
        le=96,
        description="logged prompts that the challenger answers first, unseen, for the reward model to"
        " compare; 0: none",
    )
    shadow_margin: float = Field(
        default=0.03, ge=0, le=1, description="foreseen thumbs that may surely be lost there"
    )

    @model_validator(mode="after")
    def _in_order(self) -> CanarySettings:
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares must grow from step to step")
        least, most = self.tokens
        if not 0.25 < least <= 1 <= most < 4:
            raise ValueError("tokens must be a number of 0.25 to 1 and one of 1 to 4")
        return self


def read_settings(file: Path | None, policy: str) -> CanarySettings:
    """The defaults, over them what the file says of every policy, over that what it says of this one. Raises
    CanarySettingsError."""
    if file is None:
        return CanarySettings()
    try:
        told: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise CanarySettingsError(f"{file} cannot be read: {why}") from error
    sections = _sections({} if told is None else told, (ALL, policy))
    if sections is None:
        raise CanarySettingsError(
            f'{file}: write `POLICY:`, or `"*":`, and a line for each setting'
        )
    try:
        return CanarySettings(**{name: value for of in sections for name, value in of.items()})
    except (ValidationError, TypeError) as error:
        raise CanarySettingsError(f"{file}: {policy}: {_first(error)}") from error


def _sections(told: Any, names: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """What is said under each name; None where that is no list of settings."""
    if not isinstance(told, dict):
        return None
    found = [told.get(name) or {} for name in names]
    return found if all(isinstance(section, dict) for section in found) else None


def _first(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    told = error.errors()[0]
    where = ".".join(map(str, told["loc"]))
    if told["type"] == "extra_forbidden":
        return f"{where} is no setting: there are {', '.join(CanarySettings.model_fields)}"
    return f"{where}: {told['msg']}" if where else told["msg"]
