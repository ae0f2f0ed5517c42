"""Commands about what is kept: repair, erase, audit, dead letters (`backup` and `restore` are in cli.py).

Only their flags; each imports what does its work when called.
"""

from __future__ import annotations

from typing import Annotated

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import AsJson, DataDir, Url, print_json, told_to
from rich.console import Console

console = Console()
deadletters_app = typer.Typer(help="Events that the learner could not read.")


def repair(
    data_dir: DataDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; only say what is damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every store of a stopped service and save what can be read of a damaged one."""
    from burnish.ops.commands import repair as work

    settings = config.load({"data_dir": data_dir})
    raise typer.Exit(work.run(settings, dry_run=dry_run, console=console, as_json=as_json))


def erase(
    user: Annotated[str, typer.Option(help="The end user, as `user` named them.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, where and how much.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is done.")] = False,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the stores; the weights take an update.")
    ] = 60.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Erase an end user of the key's tenant from every store, and, by a rebuild, from the weights."""
    from burnish.ops.commands import erase as work

    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}), timeout=60.0)
    said = told_to(console, as_json)
    found = work.count(service, user, said)
    question = "Erase all of this for good?"
    if dry_run or (found["removed"] and not yes and not typer.confirm(question, err=as_json)):
        told = found
    else:
        told = work.run(service, user, said, wait)
    if as_json:
        print_json(told)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50,
    check: Annotated[
        bool, typer.Option("--check", help="Whether any was removed or changed, and where.")
    ] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Who promoted, rolled back, erased, changed keys or settings, and why."""
    from burnish.feedback.audit import AuditLog
    from burnish.ops.commands import audit as work

    log = AuditLog(config.load({"data_dir": data_dir}).data_dir)
    if check:
        work.check(log, told_to(console, as_json))
    if as_json:
        print_json({"whole": True} if check else {"entries": work.listed(log, limit)})
    elif not check:
        work.show(log, limit, console)


@deadletters_app.command("list")
def deadletters_list(
    reasons: Annotated[int, typer.Option(min=1, help="Reasons to show per topic.")] = 3,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Dead letters per topic, and why they were set aside."""
    from burnish.ops.commands import deadletters

    counted = deadletters.count(config.load({"data_dir": data_dir}))
    if as_json:
        print_json(counted)
    else:
        console.print(deadletters.table(counted, reasons))


@deadletters_app.command("replay")
def deadletters_replay(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Put all dead letters back, for the learner to read again."""
    from burnish.ops.commands import deadletters

    counts = deadletters.replay(config.load({"data_dir": data_dir}), told_to(console, as_json))
    if as_json:
        print_json(counts)
