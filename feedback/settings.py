"""Where the events go. Read from BURNISH_* variables; other rooms' variables are not ours to judge."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from burnish.feedback.stream.kafka_connection import connection
from burnish.feedback.telemetry.settings import TelemetrySettings
from pydantic import AfterValidator, field_validator
from pydantic_settings import SettingsConfigDict


def readable_url(given: str) -> str:
    """`given`, if it can be taken apart; else a ValueError that repeats no part of it.

    What libraries say of a URL whose password is not encoded holds the password.
    """
    try:
        parts = urlsplit(given)
        whole = parts.port is None or bool(parts.hostname)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(
            "this URL cannot be read: write reserved characters of its password percent-encoded,"
            " as %2F for /"
        )
    return given


Url = Annotated[str, AfterValidator(readable_url)]


class StreamSettings(TelemetrySettings):
    model_config = SettingsConfigDict(
        env_prefix="BURNISH_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    redis_url: Url = "redis://127.0.0.1:6379/0"
    kafka_bootstrap: str | None = None
    """[PROTOCOL://][user:password@]host:port[,host:port]; without it, events travel by Redis Streams."""
    data_dir: Path = Path(".burnish")

    @field_validator("kafka_bootstrap")
    @classmethod
    def _can_be_read(cls, given: str | None) -> str | None:
        if given:
            connection(given)
        return given
