"""Where the events go. Read from BURNISH_* variables; other rooms' variables are not ours to judge."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class StreamSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BURNISH_", extra="ignore", frozen=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    kafka_bootstrap: str | None = None
    """Host:port, comma-separated. Without it, events travel by Redis Streams."""
    data_dir: Path = Path(".burnish")
