"""What the serving process can be told, from `BURNISH_*` variables or keyword arguments.

Left out: settings of other processes. Names unknown to every process are refused where the
command line starts, which is the one place that sees them all.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServingSettings(BaseSettings):
    """Defaults suit one machine; `burnish up` fills in what it started itself."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    model: Path = Path("ops/ember")
    data_dir: Path = Path(".burnish")
    redis_url: str = "redis://127.0.0.1:6379/0"
    kafka_bootstrap: str | None = None
    mlflow_uri: str | None = None  # None: SQLite in the data folder
    policies: tuple[str, ...] = ("default",)  # the first is what new clients should ask for
    max_running: int = Field(default=32, ge=1)
    max_queue: int = Field(default=256, ge=1)
    threads: int = Field(default=0, ge=0)  # for torch; 0: as many as torch thinks
    poll_s: float = Field(default=0.5, gt=0)  # how often the registry's aliases are read
    pinned_versions: int = Field(
        default=8, ge=1
    )  # versions beside champion and previous kept resident
    spool_max_mb: int = Field(default=1024, ge=1)
    max_tokens: int = Field(default=512, ge=1)  # of an answer whose request names no limit
    memory_budget: int = Field(default=1024, ge=0)  # tokens of remembered text a chat may carry
    drain_s: float = Field(default=30.0, ge=0)  # how long running answers may go on after SIGTERM

    @property
    def registry_uri(self) -> str:
        if self.mlflow_uri:
            return self.mlflow_uri
        return f"sqlite:///{(self.data_dir / 'mlflow' / 'mlflow.db').resolve()}"
