"""Where traces, logs and a worker's metrics go, in any process. Read from BURNISH_* variables."""

from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

FILE = "file"


class TelemetrySettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="BURNISH_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    traces: str | None = Field(
        default=None,
        description="where traces go: http://HOST:4318 of an OTLP collector, or `file`, the folder"
        " `traces` in the data folder (default: none are made)",
    )
    trace_sample: float = Field(
        default=1.0, ge=0, le=1, description="share of requests traced, unless a client's say so"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="of log lines; json has the ids of trace and span"
    )
    metrics_address: str | None = Field(
        default=None,
        description="HOST:PORT where a learner's worker answers Prometheus (`up --observe` sets it)",
    )

    @field_validator("traces")
    @classmethod
    def _is_a_place(cls, given: str | None) -> str | None:
        if given is None or given == FILE or given.startswith(("http://", "https://")):
            return given
        raise ValueError("traces go to http://HOST:PORT of an OTLP collector, or to `file`")

    @field_validator("metrics_address")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is not None:
            host, colon, port = given.rpartition(":")
            if not (host and colon and port.isdecimal() and int(port) < 65536):
                raise ValueError("an address is HOST:PORT, as 127.0.0.1:9464")
        return given
