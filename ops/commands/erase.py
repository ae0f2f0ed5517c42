"""`burnish erase`: what an erasure would remove, then the erasure, by the running service's API.

Left out: the work, which is the service's and the learner's (ops/docs/erasure.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from burnish.ops.commands.client import ServiceClient
from rich.console import Console

POLL_S = 0.5


def count(service: ServiceClient, user: str, console: Console) -> dict[str, Any]:
    """Say what would go, where and how much: the receipt of a dry run. Raises ServiceError."""
    found = service.post("/v1/erase", {"user": user, "dry_run": True})
    _show(console, found, "would be erased")
    return found


def run(service: ServiceClient, user: str, console: Console, wait_s: float) -> Any:
    """Erase, and wait until the stores are clear: the receipt. Raises ServiceError."""
    told = service.post("/v1/erase", {"user": user})
    until = time.monotonic() + wait_s
    while told["state"] in ("requested", "served") and time.monotonic() < until:
        time.sleep(POLL_S)
        told = service.get(f"/v1/erase/{told['id']}")
    _show(console, told, "erased")
    match told["state"]:
        case "weights" if told["versions"]:
            console.print(
                "the next update begins anew from the base, without them; the files of these versions"
                " are deleted once another one serves"
            )
        case "weights":
            console.print(
                "an update that is under way may have read of them; the receipt will tell"
            )
        case "finished":
            console.print("no version has learnt from them")
        case _:
            console.print("the rest goes on by itself, as soon as the learner is there")
    console.print(f"receipt: GET /v1/erase/{told['id']}", highlight=False)
    return told


def _show(console: Console, told: Mapping[str, Any], what: str) -> None:
    for store, kinds in told["removed"].items():
        counted = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        console.print(f"{store.replace('_', ' ')}: {counted} {what}", highlight=False)
    if not told["removed"]:
        console.print("nothing is held on them")
    for policy, versions in told["versions"].items():
        listed = ", ".join(map(str, versions))
        console.print(f"{policy}: versions {listed} have learnt from them", highlight=False)
