"""All BURNISH_* settings of the service, validated before anything starts.

Each room owns a pydantic-settings class; this module adds those of the command line, merges them,
and rejects unknown variables. A flag of `burnish` sets its variable in the environment and is
validated like it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from burnish.feedback.masking import masked
from burnish.feedback.settings import Url
from burnish.kernels.formats import Cache, Weights
from burnish.ops import models
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)

PREFIX = "BURNISH_"
EMBER = Path(__file__).parent / "ember"
DEMO_UPDATE_EVERY = 20.0

# Read directly from the environment, so no settings class lists them.
ENVIRONMENT_ONLY = {
    "SECRET": (
        "feedback",
        "signs interaction ids (default: the file `secret` in the data folder)",
    ),
    "SECRET_RETIRED": (
        "feedback",
        "secrets that signed ids before, separated by blanks; they still verify",
    ),
    "SIGNING_KEY": (
        "serving, learner",
        "signs policy versions (default: the file `signing-key` in the data folder)",
    ),
    "SIGNING_KEY_RETIRED": (
        "serving, learner",
        "keys that signed versions before, separated by blanks; they still verify",
    ),
    "AUDIT_KEY": (
        "feedback",
        "signs the audit log (default: the file `audit-key` in the data folder)",
    ),
    "AUDIT_KEY_RETIRED": (
        "feedback",
        "keys that signed the audit log before, separated by blanks; they still verify",
    ),
    "MLFLOW_PASSWORD": (
        "ops",
        "of MLflow's page (default: the file `mlflow/password` in the data folder)",
    ),
}


class SettingsError(ValueError):
    """An invalid setting; the message is one line that names it."""


class UpSettings(BaseSettings):
    """Settings of `burnish up` and the other commands."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    host: str = Field(
        default="127.0.0.1", description="address to listen on; beyond loopback needs keys"
    )
    port: int = Field(default=8080, ge=1, le=65535, description="port of the API and the page")
    data_dir: Path = Field(
        default=Path(".burnish"), description="everything that must survive a restart"
    )
    model: Path | None = Field(
        default=None,
        description="Hugging Face folder, GGUF file, or `smollm2` (default: the shipped ember)",
    )
    redis_url: Url | None = Field(
        default=None, description="a Redis or Valkey (default: an embedded one)"
    )
    kafka_bootstrap: str | None = Field(
        default=None,
        description="Kafka: [PROTOCOL://][user:password@]host:port,... (default: Redis Streams)",
    )
    database_url: Url | None = Field(
        default=None, description="experience database (default: SQLite)"
    )
    mlflow_uri: Url | None = Field(default=None, description="MLflow registry (default: SQLite)")
    keys_url: Url | None = Field(
        default=None,
        description="PostgreSQL with the API keys that replicas share (default: the data folder's)",
    )
    standby: bool = Field(
        default=True,
        description="keep a second serving process ready to take over (some 300 MB of memory)",
    )
    mlflow_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of MLflow's page (default: first free above 1000 up)",
    )
    update_every: float | None = Field(
        default=None,
        gt=0,
        description="seconds between update ticks (`up` on the shipped model: 20)",
    )
    disk_low_mb: int = Field(
        default=200,
        ge=0,
        description="free disk below which readiness is degraded; below a quarter of it feedback"
        " and memory get 503 and answers go unrecorded",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads per model process (default: half the cores)"
    )
    cpu: str | None = Field(
        default=None,
        description="instruction set of the native step: amx, avx512, avx2, sse, neon or pytorch"
        " (default: the best there is)",
    )
    weights: Weights = Field(
        default="auto",
        description="format in which serving keeps weights: auto (the smallest that is lossless),"
        " float32, bfloat16, int8 or int4; `burnish verify` shows what a format costs",
    )
    kv_cache: Cache = Field(
        default="auto",
        description="format of the cache of keys and values: auto (the model's own), or int8, which"
        " holds nearly twice as many tokens as bfloat16, and decodes more slowly",
    )
    url: str | None = Field(
        default=None, description="service the commands talk to (default: this folder's)"
    )
    api_key: str | None = Field(default=None, description="key the commands send")
    metrics_address: str | None = Field(
        default=None,
        description="HOST:PORT where a learner's worker answers Prometheus (default: with"
        " `up --observe` the first free port from 9464 on)",
    )

    @field_validator("cpu")
    @classmethod
    def _runs_here(cls, given: str | None) -> str | None:
        from burnish.kernels.cpu.target import target_of

        target_of(given)
        return given

    @property
    def model_path(self) -> Path:
        """Raises SettingsError for a model by name that is not installed."""
        try:
            return models.resolve(self.model or EMBER)
        except models.ModelMissing as error:
            raise SettingsError(f"BURNISH_MODEL: {error}") from error

    @property
    def model_threads(self) -> int:
        """CPU threads of each process that runs the model."""
        return self.threads or max(1, (os.cpu_count() or 2) // 2)

    @property
    def on_demo_model(self) -> bool:
        return self.model_path == EMBER.resolve()


@dataclass(frozen=True)
class Setting:
    """One variable, and the rooms that read it."""

    name: str
    rooms: tuple[str, ...]
    default: str
    description: str


def rooms() -> dict[str, type[BaseSettings]]:
    """The settings class of each room; none of these imports loads torch."""
    from burnish.feedback.settings import StreamSettings
    from burnish.learner.settings import LearnerSettings
    from burnish.serving.settings import ServingSettings

    return {
        "ops": UpSettings,
        "serving": ServingSettings,
        "feedback": StreamSettings,
        "learner": LearnerSettings,
    }


def known() -> dict[str, Setting]:
    """Every BURNISH_* variable by its full name, in the order of the settings page."""
    found: dict[str, Setting] = {}
    for room, cls in rooms().items():
        for field, info in cls.model_fields.items():
            name = PREFIX + field.upper()
            if name in found:
                earlier = found[name]
                default = earlier.default
                if not default and "(default:" not in earlier.description:
                    default = _default(info)
                found[name] = Setting(name, (*earlier.rooms, room), default, earlier.description)
            else:
                found[name] = Setting(name, (room,), _default(info), info.description or "")
    for field, (readers, description) in ENVIRONMENT_ONLY.items():
        found[PREFIX + field] = Setting(PREFIX + field, (readers,), "", description)
    return found


def _default(info: Any) -> str:
    if info.default_factory is not None or info.is_required() or info.default is None:
        return ""
    if isinstance(info.default, (list, tuple)):
        return json.dumps(info.default)  # as written in the variable
    return str(info.default)


def reject_unknown(env: Mapping[str, str]) -> None:
    """Raise SettingsError for a BURNISH_* variable that no settings class defines."""
    names = known()
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in names:
            raise SettingsError(f"{name} is not a setting{_hint(name, names)}")


def _hint(name: str, names: Mapping[str, Setting]) -> str:
    import difflib

    # Without what all begin with, or anything would be near.
    known_names = [known.removeprefix(PREFIX) for known in names]
    matches = difflib.get_close_matches(name.removeprefix(PREFIX), known_names, 1, cutoff=0.7)
    if matches:
        return f"; did you mean {PREFIX}{matches[0]}?"
    return " (ops/docs/settings.md lists them all)"


def load(flags: Mapping[str, object | None] | None = None) -> UpSettings:
    """Put flags into the environment, reject unknown variables, return the validated settings."""
    for field, value in (flags or {}).items():
        if value is not None:
            os.environ[PREFIX + field.upper()] = str(value)
    # Compose files and shells pass an unset variable as an empty one.
    for name in [n for n, v in os.environ.items() if n.startswith(PREFIX) and v == ""]:
        del os.environ[name]
    reject_unknown(os.environ)
    return _check(UpSettings)


def check_rooms(env: Mapping[str, str]) -> None:
    """Validate each room's settings in the environment that its process will get."""
    before = dict(os.environ)
    os.environ.update(env)
    try:
        for cls in rooms().values():
            _check(cls)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _check(cls: type[S]) -> S:
    try:
        return cls()
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        given = "" if first["type"] == "missing" else f", got {masked(repr(first.get('input')))}"
        raise SettingsError(f"{PREFIX}{field.upper()}: {first['msg']}{given}") from error


def refuse_bad_model(folder: Path) -> None:
    whole = folder.is_file() or (folder / "config.json").is_file() or any(folder.glob("*.gguf"))
    if not whole:
        raise SettingsError(
            f"BURNISH_MODEL: {folder} is not a model folder (no config.json in it, and no GGUF file)"
        )


def refuse_taken_port(host: str, port: int, name: str = "BURNISH_PORT") -> None:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise SettingsError(
            f"BURNISH_HOST: cannot listen on {host!r} ({error.strerror})"
        ) from error
    with socket.socket(infos[0][0], socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(infos[0][4])
        except OSError as error:
            raise SettingsError(
                f"{name}: cannot listen on {host}:{port} ({error.strerror}); "
                "choose another with --port"
            ) from error


def free_port(start: int = 0, host: str = "127.0.0.1") -> int:
    """The first free port from `start` on; 0 lets the system choose."""
    for port in _candidates(start):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise SettingsError(f"no free port from {start} on")


def _candidates(start: int) -> Iterator[int]:
    if start == 0:
        yield 0
    else:
        yield from range(start, min(start + 200, 65536))


def as_markdown() -> str:
    """The page ops/docs/settings.md; a test compares them."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs`. A flag of `burnish up` is the same variable written shorter.",
        "An empty default: unset, and found or chosen by `burnish up`.",
        "",
        "| variable | default | read by | |",
        "|---|---|---|---|",
    ]
    for setting in known().values():
        default = f"`{setting.default}`" if setting.default else ""
        rooms_ = ", ".join(setting.rooms)
        lines.append(f"| `{setting.name}` | {default} | {rooms_} | {setting.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
