"""What the learner may be told from outside: where its services are, how often and how hard it
learns, and what the gate lets through.

Every field is read from `BURNISH_<NAME>`. Refusing unknown BURNISH_* names is left to the command
line, which knows the settings of every room.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from burnish.feedback.settings import StreamSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class LearnerSettings(StreamSettings):
    """`redis_url`, `kafka_bootstrap` and `data_dir` come from the stream's settings."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_", extra="ignore")

    database_url: str | None = None
    mlflow_uri: str | None = None
    mlflow_artifacts: str | None = None
    model: Path = Path("ops/ember")
    policies: list[str] = ["default"]

    rule: Literal["heads", "pg"] = "heads"
    update_every: float = Field(5400.0, gt=0, description="seconds between update ticks")
    intake_every: float = Field(2.0, gt=0, description="seconds between intake ticks")
    min_feedback: int = Field(16, ge=1, description="new judgements that make a tick worth it")
    min_experience: int = Field(48, ge=1, description="judged answers before the first update")
    threads: int = Field(1, ge=1, description="CPU threads a tick may use")

    update_seconds: float = Field(15.0, gt=0, description="time budget of the training steps")
    update_steps: int = Field(64, ge=1, description="most training steps in one tick")
    checkpoint_seconds: float = Field(10.0, gt=0, description="between checkpoints inside a tick")
    answers_per_step: int = Field(96, ge=8)
    samples_per_prompt: int = Field(4, ge=2)
    max_answer_tokens: int = Field(96, ge=1)
    max_prompt_tokens: int = Field(512, ge=1)
    history: int = Field(4096, ge=1, description="latest judged answers a tick learns from")
    max_staleness: int = Field(1000, ge=0, description="versions after which an answer is too old")

    learning_rate: float = Field(1e-3, gt=0)
    clip_norm: float = Field(1.0, gt=0)
    kl_weight: float = Field(0.05, ge=0, description="weight of KL to the base, per token")
    kl_budget: float = Field(0.25, gt=0, description="nats per token the adapter may move away")
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    keep_checkpoints: int = Field(8, ge=2)

    promotes: Literal["champion", "challenger", "nothing"] = "champion"
    gate_tasks_per_family: int = Field(12, ge=1)
    gate_skill_margin: float = Field(0.02, ge=0)
    gate_max_kl: float = Field(0.5, gt=0, description="nats per token against the base")

    lease_seconds: float = Field(30.0, gt=0)
    seed: int = 0

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve()}/experience.db"

    @property
    def registry(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.data_dir.resolve()}/mlflow/mlflow.db"

    @property
    def checkpoints(self) -> Path:
        return self.data_dir / "checkpoints"
