"""`burnish quarantine`: whose votes count nowhere since they came too fast, and letting them out again."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceClient
from burnish.ops.commands.output import AsJson, DataDir, Policy, Url, Why, print_json
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(help="Whose votes count nowhere, since they came too fast.")
console = Console()


@app.command("list")
def list_(
    policy: Policy = "default",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Who is in quarantine, by pseudonym."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    told = service.get("/v1/learner/quarantine", policy=policy)
    if as_json:
        print_json(told)
        return
    if not told["held"]:
        console.print(escape(told["why"] or "nobody is in quarantine"), highlight=False)
        return
    table = Table("tenant", "person", "key", "votes", "from", "to", box=None)
    for one in told["held"]:
        first, last = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one[end])) for end in ("first", "last")
        )
        named = (one["tenant"], one["person"], one["key_id"] or "")
        table.add_row(*map(escape, named), str(one["votes"]), first, last)
    console.print(table)


@app.command()
def release(
    person: Annotated[str, typer.Argument(help="The pseudonym, or with --name the user's name.")],
    tenant: Annotated[str, typer.Option(help="Whose user it is.")] = "local",
    key: Annotated[str | None, typer.Option(help="The API key, where the list has one.")] = None,
    by_name: Annotated[
        bool, typer.Option("--name", help="It is the name that votes carry.")
    ] = False,
    why: Why = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let what somebody has given so far count as anyone's."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    named = {"user": person} if by_name else {"person": person}
    body = {"tenant": tenant, **named, **({"key_id": key} if key else {}), "why": why}
    told = service.post("/v1/learner/quarantine/release", body)
    if as_json:
        print_json(told)
        return
    console.print(
        f"{told['person']} of {tenant} is out; the next update counts their votes", highlight=False
    )
