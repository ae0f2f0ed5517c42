"""The learner's settings: its services, the size and pace of updates, and the gate's limits.

Every field is read from `BURNISH_<NAME>`. Refusing unknown BURNISH_* names is left to the command
line, which knows the settings of every room.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from burnish.feedback.settings import StreamSettings, Url
from burnish.feedback.trust.policy import TrustPolicy
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

# Values that were renamed, by field; accepted with a warning for one version.
RENAMED_VALUES = {
    "rule": {"heads": "reward_model"},
}

# Between updates that are this far apart, no process keeps the model, caches and training copies loaded.
LONG_REST_SECONDS = 600

# Of the time between two updates, what training may take; the rest is for fitting, gate and rest.
TRAINING_SHARE = 0.75


class LearnerSettings(StreamSettings):
    """`redis_url`, `kafka_bootstrap` and `data_dir` come from the stream's settings."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_", extra="ignore")

    database_url: Url | None = None
    mlflow_uri: Url | None = None
    mlflow_artifacts: str | None = Field(
        default=None, description="where adapters go (default: beside the SQLite registry)"
    )
    model: Path = Path("ops/ember")
    policies: list[str] = ["default"]
    tasks: str = Field(
        default="auto",
        min_length=1,
        description="task packs for rehearsal and gate, separated by commas: JSONL files or folders of"
        " them, `general`, `ember`, `reasoning-gym`, names of the entry-point group `burnish.tasks`;"
        " `auto`: the model's own, else `general`",
    )

    rule: Literal["reward_model", "pg", "kto", "dpo", "grpo"] = Field(
        default="reward_model",
        description="update rule: `reward_model`, over fresh answers; or, to compare with, `pg` (plain"
        " policy gradient), `kto` (liked and disliked answers), `dpo` (corrections, and pairs of answers"
        " to one prompt), `grpo` (verifiable tasks alone)",
    )
    preference_beta: float = Field(
        default=0.1, gt=0, description="beta of `kto` and `dpo`: how closely they hold to the base"
    )
    update_every: float = Field(default=5400.0, gt=0, description="seconds between update ticks")
    intake_every: float = Field(default=2.0, gt=0, description="seconds between intake ticks")
    reward_every: float = Field(
        default=5.0,
        ge=0,
        description="seconds between looks for judgements that the published reward model does not know,"
        " by which `best_of` chooses, beside those when some came in; 0: it is published with each"
        " version only",
    )
    unmatched_after: float = Field(
        default=300.0,
        gt=0,
        description="seconds after which a judgement without an answer is reported",
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        description="days after which interactions and judgements are erased from the experience"
        " database (default: kept)",
    )
    retention_deadletter_days: float | None = Field(
        default=None, gt=0, description="the same of dead letters"
    )
    retention_session_days: float | None = Field(
        default=None, gt=0, description="the same of memory's sessions, since their last step"
    )
    retention_record_days: float | None = Field(
        default=None, gt=0, description="the same of memory's records, since they were last written"
    )
    min_feedback: int = Field(default=16, ge=1, description="new judgements an update needs")
    min_experience: int = Field(
        default=48, ge=1, description="judged answers before the first update"
    )
    update_job: Literal["worker", "process", "slurm", "kubernetes"] | None = Field(
        default=None,
        description="where an update runs: in the Celery worker, which it occupies, or as a job: a process"
        " beside the worker, in SLURM, in Kubernetes (default: a process, or the worker where updates"
        " follow one another within ten minutes)",
    )
    update_ranks: int = Field(
        default=1,
        ge=1,
        description="processes that train together, of one job on one machine; base and adapter are"
        " sharded over them (FSDP2)",
    )
    update_hours: float = Field(
        default=24.0, gt=0, description="hours after which a job is ended as hung"
    )
    slurm_options: str = Field(
        default="", description="of sbatch: `--partition=gpu --gres=gpu:4 --time=4:00:00`"
    )
    kubernetes_job: Path | None = Field(
        default=None,
        description="manifest of the Job that updates become in Kubernetes (the chart brings one)",
    )
    threads: int = Field(default=1, ge=1, description="CPU threads a tick may use")

    update_seconds: float | None = Field(
        default=None,
        gt=0,
        description="time budget of the training steps (default: three quarters of"
        " BURNISH_UPDATE_EVERY)",
    )
    update_steps: int = Field(default=96, ge=1, description="most training steps in one tick")
    rebuild_every: int = Field(
        default=12,
        ge=0,
        description="updates after which one starts anew from the base, with four to eight times the steps, so"
        " that nothing stays in the weights that no judgement stands for; of the first updates the fourth, and"
        " whenever their number has doubled (0: never)",
    )
    checkpoint_seconds: float = Field(
        default=10.0, gt=0, description="seconds between checkpoints inside a tick"
    )
    answers_per_step: int = Field(default=64, ge=8, description="fresh answers sampled for a step")
    samples_per_prompt: int = Field(default=4, ge=2, description="fresh answers to one prompt")
    max_answer_tokens: int = Field(
        default=512,
        ge=1,
        description="longest fresh answer; judged ones of twice the length are not learnt from",
    )
    max_prompt_tokens: int = Field(
        default=512, ge=1, description="longer prompts are not learnt from"
    )
    history: int = Field(default=6144, ge=1, description="latest judged answers a tick learns from")
    max_staleness: int = Field(
        default=1000, ge=0, description="versions after which an answer is too old"
    )

    key_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="most that one API key may have of its tenant's votes in an hour, by weight",
    )
    tenant_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="most that one tenant may have of all votes in an hour, by weight",
    )

    policy_tenants: dict[str, str] = Field(
        default={},
        description="tenants by the policy that is theirs, as JSON: of these no share bounds what they"
        " move; in others no tenant's votes weigh more in an update than all the rest together",
    )

    learning_rate: float | None = Field(
        default=None, gt=0, description="of the adapter (default: 0.256 / the model's width)"
    )
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    kl_weight: float = Field(
        default=0.03,
        ge=0,
        description="weight of KL to the base, beside advantages that grow with what is known",
    )
    kl_budget: float = Field(
        default=4.0,
        gt=0,
        description="KL to the base, nats per answer, past which only the penalty acts",
    )
    lora_rank: int = Field(default=16, ge=1, description="rank of the adapter")
    lora_alpha: int = Field(default=32, ge=1, description="LoRA alpha: the scale is alpha / rank")
    keep_checkpoints: int = Field(default=8, ge=2, description="checkpoints kept, the latest first")

    tinker_url: Url | None = Field(
        default=None, description="a service that speaks the Tinker API (default: Tinker's own)"
    )
    tinker_key: SecretStr | None = Field(default=None, description="API key of that service")
    tinker_model: str | None = Field(
        default=None, description="name of BURNISH_MODEL at that service, say `Qwen/Qwen3-8B`"
    )

    promotes: Literal["champion", "challenger", "nothing"] | None = Field(
        default=None,
        description="alias given to a version that passed the gate: `champion`, at once; `challenger`, by way of"
        " a canary (ops/docs/canary.md); `nothing` (default: challenger, or champion where updates follow one"
        " another within ten minutes)",
    )
    canary_settings: Path | None = Field(
        default=None, description="YAML file of how canaries go, by policy (ops/docs/canary.md)"
    )
    canary_every: float = Field(
        default=5.0, gt=0, description="seconds between looks at a canary's evidence"
    )
    gate_limits: Path | None = Field(
        default=None,
        description="YAML file of what a candidate may lose at the gate (ops/docs/gate.md); it goes before"
        " the two limits below",
    )
    gates: str = Field(
        default="",
        description="gates of your own, separated by commas: names of the entry-point group"
        " `burnish.gates`, or `file.py:function` (ops/docs/gate.md)",
    )
    gate_tasks_per_family: int = Field(
        default=12,
        ge=1,
        description="held-out tasks of each family in the gate's first look; it asks more where it must",
    )
    gate_skill_margin: float = Field(
        default=0.02, ge=0, le=1, description="skill a version may lose"
    )
    gate_max_kl: float = Field(default=0.5, gt=0, description="nats per token against the base")

    alarm_limits: Path | None = Field(
        default=None,
        description="YAML file of what may change before an alarm opens (ops/docs/alarms.md)",
    )

    lease_seconds: float = Field(
        default=30.0, gt=0, description="seconds until the lease of a dead tick runs out"
    )
    seed: int = Field(default=0, description="of the learner's random numbers")

    @field_validator("rule", mode="before")
    @classmethod
    def _accept_renamed_value(cls, value: Any, info: ValidationInfo) -> Any:
        field = info.field_name or ""
        new = RENAMED_VALUES[field].get(value) if isinstance(value, str) else None
        if new is None:
            return value
        warnings.warn(
            f"BURNISH_{field.upper()}={value} is deprecated: it is called {new} now, and the next "
            "version will refuse the old name",
            FutureWarning,  # unlike DeprecationWarning, shown to people by default
            stacklevel=2,
        )
        return new

    @property
    def training_seconds(self) -> float:
        """BURNISH_UPDATE_SECONDS, or its default."""
        return self.update_seconds or TRAINING_SHARE * self.update_every

    @property
    def promotes_to(self) -> Literal["champion", "challenger", "nothing"]:
        """BURNISH_PROMOTES, or its default: at a demonstration's pace a canary would only stand in the way."""
        often = self.update_every < LONG_REST_SECONDS
        return self.promotes or ("champion" if often else "challenger")

    @property
    def updates_run_in(self) -> str:
        """BURNISH_UPDATE_JOB, or its default."""
        often = self.update_every < LONG_REST_SECONDS
        return self.update_job or ("worker" if often else "process")

    @model_validator(mode="after")
    def _check_job(self) -> LearnerSettings:
        if self.update_ranks > 1 and self.updates_run_in == "worker":
            raise ValueError(
                f"BURNISH_UPDATE_RANKS={self.update_ranks} needs a job: set BURNISH_UPDATE_JOB=process"
            )
        if self.update_job == "kubernetes" and self.kubernetes_job is None:
            raise ValueError(
                "BURNISH_UPDATE_JOB=kubernetes needs BURNISH_KUBERNETES_JOB, the manifest of its Job"
            )
        return self

    @property
    def forgets(self) -> bool:
        """Whether anything is erased for its age."""
        return any(
            days is not None
            for days in (
                self.retention_days,
                self.retention_deadletter_days,
                self.retention_session_days,
                self.retention_record_days,
            )
        )

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve()}/experience.db"

    @property
    def registry(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.data_dir.resolve()}/mlflow/mlflow.db"

    @property
    def trust(self) -> TrustPolicy:
        return TrustPolicy(key_share=self.key_share, tenant_share=self.tenant_share)

    def trust_of(self, policy: str) -> TrustPolicy:
        """The same for one policy, which may be a tenant's own."""
        return replace(self.trust, owner=self.policy_tenants.get(policy))

    @property
    def checkpoints(self) -> Path:
        return self.data_dir / "checkpoints"
