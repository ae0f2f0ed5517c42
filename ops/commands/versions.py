"""`burnish promote`, `rollback`, `pause`, `resume` and `sign`: what the registry does at a person's word.

The champion is moved through the service if it is up, else directly in the registry. Signing is
always direct: the data folder's secret is what allows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from burnish.feedback.audit import AuditLog
from burnish.ops.commands.client import ServiceClient, ServiceDown, ServiceError
from burnish.ops.settings import SettingsError, UpSettings

if TYPE_CHECKING:
    from burnish.serving.registry import PolicyRegistry


def parse(version: str, policy: str) -> tuple[str, int]:
    """Policy and number of `12` or `default@12`. Raises SettingsError."""
    name, _, number = version.rpartition("@")
    if not number.isdecimal():
        raise SettingsError(f"{version!r} is not a version; write 12 or {policy}@12")
    return name or policy, int(number)


def move(settings: UpSettings, policy: str, version: int | None, why: str = "") -> dict[str, Any]:
    """Make `version` champion; None: the one before. `why` goes to the audit log. What the service says of it;
    nothing where it is not up."""
    action = "rollback" if version is None else "promote"
    body = {} if version is None else {"version": version}
    try:
        return _asked(settings, policy, action, why, **body)
    except ServiceDown:
        if settings.url:
            raise
        with _registry(settings) as registry:
            if version is None:
                registry.rollback(policy, why=why)
            else:
                registry.promote(policy, version, why=why)
            return {}


def pause(settings: UpSettings, policy: str, why: str = "") -> None:
    """Let no update promote anything."""
    try:
        _asked(settings, policy, "pause", why)
    except ServiceDown:
        if settings.url:
            raise
        with _registry(settings) as registry:
            registry.pause(policy, why=why)


def resume(settings: UpSettings, policy: str, why: str = "") -> bool:
    """Let updates promote again; whether they were kept from it."""
    try:
        return bool(_asked(settings, policy, "resume", why)["resumed"])
    except ServiceDown:
        if settings.url:
            raise
        with _registry(settings) as registry:
            return registry.resume(policy, why=why)


def _asked(settings: UpSettings, policy: str, action: str, why: str, **body: int) -> dict[str, Any]:
    told = {**body, "why": why} if why else body
    return ServiceClient(settings).post(f"/v1/policies/{policy}/{action}", told)


def sign(settings: UpSettings, policy: str, version: int) -> str:
    """Vouch for a version that was not made here; the adapter's sha256."""
    with _registry(settings) as registry:
        return str(registry.sign(policy, version).sha256)


def rotate_signing_key(settings: UpSettings) -> int:
    with _registry(settings) as registry:
        return registry.rotate_signing_key()


@contextmanager
def _registry(settings: UpSettings) -> Iterator[PolicyRegistry]:
    """The registry of the settings, whose errors are the user's to read."""
    from burnish.serving.registry import PolicyRegistry, RegistryError, signing_keys

    data_dir = settings.data_dir.resolve()
    database = data_dir / "mlflow" / "mlflow.db"
    if settings.mlflow_uri is None and not database.exists():
        raise ServiceError(f"there is no registry in {data_dir} yet; `burnish up` makes one")
    uri = settings.mlflow_uri or f"sqlite:///{database}"
    try:
        yield PolicyRegistry(uri, keys=signing_keys(data_dir), audit=AuditLog(data_dir))
    except RegistryError as error:
        raise ServiceError(str(error)) from error
    except ValueError as error:  # the environment gives the secret
        raise SettingsError(str(error)) from error
