"""`burnish keys`: API keys, and the rotation of every secret that the data folder holds.

They act on the data folder, whoever may read it; a running service follows within a second.
"""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from burnish.feedback.audit import AuditLog
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceError
from burnish.ops.commands.output import AsJson, DataDir, print_json
from burnish.ops.settings import SettingsError
from rich.console import Console
from rich.table import Table

DAY_S, HOUR_S = 86400.0, 3600.0
SHOWN = 10  # characters of a key that may be shown

console = Console()
app = typer.Typer(help="API keys, needed as soon as the service leaves loopback; other secrets.")


@app.command()
def add(
    tenant: Annotated[str, typer.Argument(help="Whose key: letters, digits, - and _.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="chat, feedback, memory, admin (repeat).")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days until it expires (never).")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a key; it is shown once. From the first one on, no request is served without."""
    lasts_s = None if days is None else days * DAY_S
    try:
        key = _keys(data_dir).create(
            tenant, scope or ("chat", "feedback", "memory"), lasts_s=lasts_s
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    _note(data_dir, "add key", key[:SHOWN], {"tenant": tenant, "scopes": scope or "default"})
    _print_key(key, as_json)


@app.command("list")
def show(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """What may be shown of each key."""
    keys = _keys(data_dir).list()
    if as_json:
        print_json([vars(key) for key in keys])
        return
    table = Table("key", "tenant", "scopes", "made", "expires", box=None)
    for key in keys:
        expires = "" if key.expires_at is None else _minute(key.expires_at)
        table.add_row(
            f"{key.prefix}...", key.tenant, " ".join(key.scopes), _minute(key.created_at), expires
        )
    console.print(table)


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(help="A key as `keys list` shows it, or its tenant.")],
    hours: Annotated[
        float, typer.Option(min=0, help="Hours for which the old key is still good.")
    ] = 24.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a new key in place of an old one, which is good for a while yet."""
    try:
        key = _keys(data_dir).rotate(name.removesuffix("..."), hours * HOUR_S)
    except LookupError as error:
        raise ServiceError(str(error)) from error
    _note(data_dir, "rotate key", name, {"new": key[:SHOWN]})
    _print_key(key, as_json)


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Forget a key; its requests are refused within a second."""
    keys = _keys(data_dir)
    if not keys.revoke(prefix.removesuffix("...")):
        raise ServiceError(f"no key starts with {prefix}")
    _note(data_dir, "revoke key", prefix)
    if as_json:
        print_json({"revoked": prefix, "valid_keys_left": bool(keys)})
        return
    console.print("revoked")
    if not keys:
        console.print("no key is valid any more: every request is refused until `burnish keys add`")


@app.command()
def rotate_ids(
    days: Annotated[
        float, typer.Option(min=0, help="Days for which feedback on older answers is taken.")
    ] = 90.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Sign interaction ids with a new secret; those given out before stay good for a while."""
    from burnish.feedback.ids import id_keyring

    try:
        id_keyring(_folder(data_dir)).rotate(days * DAY_S)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    _note(data_dir, "rotate ids' secret")
    if as_json:
        print_json({"rotated": True, "older_ids_good_for_days": days})
        return
    console.print(f"new ids have a new signature; older ones are good for {days:g} days")


@app.command()
def rotate_signing(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Sign every policy version of ours again, with a new secret."""
    from burnish.ops.commands import versions

    count = versions.rotate_signing_key(config.load({"data_dir": data_dir}))
    if as_json:
        print_json({"signed": count})
        return
    console.print(f"{count} versions have a new signature")


def _print_key(key: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": key})
    else:
        print(key)


def _note(data_dir: Path | None, what: str, about: str = "", details: Any = None) -> None:
    """Into the audit log, in the name of whoever is logged in here."""
    AuditLog(_folder(data_dir)).append(getpass.getuser(), what, about, details=details)


def _keys(data_dir: Path | None):
    from burnish.serving.api.keys import KeyStore

    settings = config.load({"data_dir": data_dir})
    return KeyStore(settings.data_dir / "keys.sqlite", url=settings.keys_url)


def _folder(data_dir: Path | None) -> Path:
    return config.load({"data_dir": data_dir}).data_dir


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
