"""Commands about versions: is it learning, what did the gate say, who is champion.

Only their flags; each imports what does its work when called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from burnish.ops import settings as config
from burnish.ops.commands import versions
from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import AsJson, DataDir, Policy, Url, Why, print_json
from rich.console import Console

console = Console()

PolicyArgument = Annotated[str, typer.Argument(help="Which policy.")]
Version = Annotated[str, typer.Argument(help="A version: 12 or default@12.")]


def report(
    policy: Policy = "default",
    as_json: AsJson = False,
    plots: Annotated[Path | None, typer.Option(help="Write PNGs into this folder.")] = None,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Is it learning? What votes say of each version, and what would help most."""
    from burnish.ops.commands import report as work

    settings = config.load({"data_dir": data_dir, "url": url})
    work.run(settings, policy, console, as_json=as_json, plots=plots)


def gate(
    version: Annotated[
        str | None, typer.Argument(help="A version: 12 or default@12 (default: the newest).")
    ] = None,
    policy: Policy = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """What the gate said of a version: whether it passed, and why not; exit code 1 where it did not."""
    from burnish.ops.commands import gate as work

    settings = config.load({"data_dir": data_dir, "url": url})
    raise typer.Exit(work.run(settings, version, policy, console, as_json=as_json))


def update(
    policy: Policy = "default", as_json: AsJson = False, data_dir: DataDir = None, url: Url = None
) -> None:
    """Ask the learner for an update tick now."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    asked = service.post("/v1/learner/update", {"policy": policy})
    if as_json:
        print_json(asked)
    else:
        console.print("asked the learner for an update; `burnish status` will say what it did")


def promote(
    version: Version,
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Make a version the champion."""
    policy, number = versions.parse(version, policy)
    told = versions.move(config.load({"data_dir": data_dir, "url": url}), policy, number, why)
    alarms = told.get("alarms", [])
    if as_json:
        print_json({"policy": policy, "champion": number, "alarms": alarms})
        return
    console.print(f"{policy}: {policy}@{number} is champion now", highlight=False)
    for alarm in alarms:
        console.print(f"an alarm is open: {alarm}", highlight=False, markup=False)


def rollback(
    policy: Policy = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Put the previous champion back."""
    versions.move(config.load({"data_dir": data_dir, "url": url}), policy, None, why)
    if as_json:
        print_json({"policy": policy, "rolled_back": True})
    else:
        console.print(f"{policy}: the version before is champion now", highlight=False)


def pause(
    policy: PolicyArgument = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let no update promote anything until `resume`; updates go on, and people may promote."""
    versions.pause(config.load({"data_dir": data_dir, "url": url}), policy, why)
    if as_json:
        print_json({"policy": policy, "paused": True})
    else:
        console.print(f"{policy}: no update promotes anything from now on", highlight=False)


def resume(
    policy: PolicyArgument = "default",
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let updates promote again."""
    resumed = versions.resume(config.load({"data_dir": data_dir, "url": url}), policy, why)
    if as_json:
        print_json({"policy": policy, "paused": False, "resumed": resumed})
    else:
        said = "updates promote again" if resumed else "was not paused"
        console.print(f"{policy}: {said}", highlight=False)


def sign(
    version: Version, policy: Policy = "default", as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Vouch for a version that you brought: only what is signed is ever served.

    It is an adapter in peft's format (adapter_config.json, adapter_model.safetensors) for this base
    model, registered in MLflow as a version of the policy.
    """
    policy, number = versions.parse(version, policy)
    sha256 = versions.sign(config.load({"data_dir": data_dir}), policy, number)
    if as_json:
        print_json({"ref": f"{policy}@{number}", "sha256": sha256})
    else:
        console.print(f"{policy}@{number} is signed (sha256 {sha256})", highlight=False)
