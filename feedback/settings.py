"""Where the events go. Read from BURNISH_* variables; other rooms' variables are not ours to judge."""

from pathlib import Path

from burnish.feedback.stream.kafka_connection import connection
from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class StreamSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="BURNISH_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    kafka_bootstrap: str | None = None
    """[PROTOCOL://][user:password@]host:port[,host:port]; without it, events travel by Redis Streams."""
    data_dir: Path = Path(".burnish")

    @field_validator("kafka_bootstrap")
    @classmethod
    def _can_be_read(cls, given: str | None) -> str | None:
        if given:
            connection(given)
        return given
