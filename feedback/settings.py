"""Where the events go. Read from BURNISH_* variables; other rooms' variables are not ours to judge."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from burnish.feedback.redis_clients import broker_of, servers_of
from burnish.feedback.stream.kafka_connection import Mechanism, Security, connection
from burnish.feedback.telemetry.settings import TelemetrySettings
from pydantic import AfterValidator, Field, FilePath, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict


def readable_url(given: str) -> str:
    """`given`, if it can be taken apart; else a ValueError that repeats no part of it.

    What libraries say of a URL whose password is not encoded holds the password.
    """
    if servers_of(given) is not None:
        return given
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
    redis_replicas: int = Field(
        default=0,
        ge=0,
        description="replicas of Redis that must have an event before it leaves the spool (WAIT)",
    )
    broker_url: Url | None = Field(
        default=None,
        validate_default=True,
        description="Redis for Celery's queues (default: BURNISH_REDIS_URL)",
    )
    kafka_bootstrap: str | None = None
    """[PROTOCOL://][user:password@]host:port[,host:port]; without it, events travel by Redis Streams."""
    kafka_sasl: Mechanism = Field(
        default="PLAIN", description="how a user logs in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_ca: FilePath | None = Field(
        default=None, description="PEM file of who signed the brokers' certificates (the system's)"
    )
    kafka_certificate: FilePath | None = Field(
        default=None, description="PEM file of our own certificate, where brokers ask for one"
    )
    kafka_key: FilePath | None = Field(default=None, description="PEM file of its key")
    kafka_partitions: int = Field(
        default=3, ge=1, description="of topics that are created: so many workers share the intake"
    )
    kafka_replicas: int | None = Field(
        default=None, ge=1, description="of topics that are created (default: one per broker, to 3)"
    )
    data_dir: Path = Path(".burnish")

    @property
    def broker(self) -> str:
        return self.broker_url or self.redis_url

    @property
    def kafka_security(self) -> Security:
        return Security(self.kafka_sasl, self.kafka_ca, self.kafka_certificate, self.kafka_key)

    @field_validator("broker_url")
    @classmethod
    def _takes_queues(cls, given: str | None, info: ValidationInfo) -> str | None:
        if url := given or info.data.get("redis_url"):
            broker_of(url)
        return given

    @field_validator("kafka_bootstrap")
    @classmethod
    def _can_be_read(cls, given: str | None) -> str | None:
        if given:
            connection(given)
        return given
