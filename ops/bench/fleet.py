"""A fleet on one machine, each part killed in turn under load: `python -m burnish.ops.bench.fleet`.

Two replicas behind nginx, three brokers, a Redis Cluster of three nodes, PostgreSQL, two intake workers and
an updater (lib/fleet_parts.py). Clients chat, vote and append to memory through nginx while every part is
killed with SIGKILL and started again, the champion moves, and the replicas are restarted one after the
other. Whatever was acknowledged must in the end be in the experience database, or in memory, exactly once,
and both replicas must say the same of a vote. Then votes alone, as fast as two replicas take them.
`--broker-away 600` keeps one broker away for ten minutes of light load before that.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.ops import settings as config
from burnish.ops.bench.lib import function_profile
from burnish.ops.bench.lib.fleet_accounts import accounts, same_on_all, stored_votes
from burnish.ops.bench.lib.fleet_parts import Fleet, Process, run_fleet
from burnish.ops.bench.lib.fleet_votes import VoteLoad, vote
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError
from burnish.ops.bench.lib.steady_load import SteadyLoad
from burnish.ops.bench.swaps import POLICY, add_versions
from rich.console import Console

BEFORE_S, AWAY_S = 2.0, 3.0  # of load before each kill; before it is started again
SWAPS = 3
SAME_VERSION_GOAL_S = 2.0
DRAIN_GOAL_S = 60.0
VOTES_GOAL, P99_GOAL_MS = 10_000, 50.0
IN_FLIGHT = 256
console = Console()


# --- what is done to it --------------------------------------------------------------------------


async def kill_in_turn(
    fleet: Fleet, load: SteadyLoad, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Each part once under load; a row of figures for each."""
    rows = []
    for name in names:
        await asyncio.sleep(BEFORE_S)
        before, errors = load.observed.counts.copy(), len(load.observed.chat_errors)
        open_ = await _in_flight(fleet, name)
        await asyncio.to_thread(fleet.parts[name].kill)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(fleet.parts[name].start)
        back = await asyncio.to_thread(fleet.wait_for, name)
        failed = load.observed.chat_errors[errors:]
        meanwhile = load.observed.counts - before
        rows.append(
            {
                "part": name,
                "back_seconds": round(back, 2),
                "open_requests": open_,
                "chats_failed": len(failed),
                "votes_refused": _refused(meanwhile, "votes"),
                "steps_refused": _refused(meanwhile, "steps"),
                "first_errors": failed[:3],
                "meanwhile": dict(meanwhile),
            }
        )
        console.print(f"killed {name}: {dict(meanwhile)}, {len(failed)} chats failed")
    return rows


def _refused(meanwhile: Mapping[str, int], what: str) -> int:
    return sum(n for name, n in meanwhile.items() if name.startswith(f"{what} refused"))


async def _in_flight(fleet: Fleet, name: str) -> int | None:
    """How many requests a replica is answering; None for another part."""
    for replica in fleet.replicas:
        if replica.process.name == name:
            async with httpx.AsyncClient(headers=_login(fleet)) as client:
                told = await client.get(f"{replica.url}/metrics", timeout=10)
            lines = [
                x for x in told.text.splitlines() if x.startswith("burnish_http_requests_in_flight")
            ]
            return round(float(lines[0].split()[-1])) - 1 if lines else None
    return None


async def move_champion(fleet: Fleet, versions: Sequence[int]) -> list[float]:
    """Promote each, and the seconds until every replica answers what the alias says."""
    seconds = []
    for number in versions:
        await asyncio.to_thread(fleet.registry.promote, POLICY, number)
        seconds.append(await _until_same(fleet))
        await asyncio.sleep(1.0)
    return seconds


async def _until_same(fleet: Fleet, patience_s: float = 30.0) -> float:
    """Seconds until every replica serves what the alias names; the learner may move it meanwhile."""
    began = time.monotonic()
    async with httpx.AsyncClient(headers=_login(fleet)) as client:
        while time.monotonic() - began < patience_s:
            serving = [await _serving(client, replica.url) for replica in fleet.replicas]
            wanted = await asyncio.to_thread(fleet.registry.champion_version, POLICY)
            if set(serving) == {wanted}:
                return time.monotonic() - began
            await asyncio.sleep(0.05)
    raise BenchError(f"the replicas serve {serving}, the alias names {wanted}")


async def _serving(client: httpx.AsyncClient, url: str) -> int | None:
    try:
        return (await client.get(f"{url}/readyz", timeout=10)).json()["policies"].get(POLICY)
    except (httpx.TransportError, ValueError, KeyError):
        return None


async def champion_moves_while_away(fleet: Fleet, version: int) -> float:
    """A replica is killed, the alias moves, it starts: the seconds from ready to the same version."""
    away = fleet.replicas[1].process
    await asyncio.to_thread(away.kill)
    await asyncio.to_thread(fleet.registry.promote, POLICY, version)
    await asyncio.to_thread(away.start)
    await asyncio.to_thread(fleet.wait_for, away.name)
    return await _until_same(fleet)


async def restart_in_turn(fleet: Fleet, load: SteadyLoad) -> dict[str, Any]:
    """SIGTERM to one replica, its new start, then the other."""
    before, errors = load.observed.counts.copy(), len(load.observed.chat_errors)
    for replica in fleet.replicas:
        await asyncio.to_thread(replica.process.stop)
        await asyncio.to_thread(replica.process.start)
        await asyncio.to_thread(fleet.wait_for, replica.process.name)
        await asyncio.sleep(BEFORE_S)
    meanwhile = load.observed.counts - before
    failed = load.observed.chat_errors[errors:]
    refused = _refused(meanwhile, "votes") + _refused(meanwhile, "steps")
    return {"chats_failed": len(failed), "first_errors": failed[:3], "refused": refused,
            "meanwhile": dict(meanwhile)}  # fmt: skip


async def broker_away(fleet: Fleet, load: SteadyLoad, seconds: float) -> dict[str, Any]:
    """One broker away for so long: what was refused, and the seconds until all has arrived."""
    before, errors = load.observed.counts.copy(), len(load.observed.chat_errors)
    await asyncio.to_thread(fleet.parts["broker-2"].kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(fleet.parts["broker-2"].start)
    meanwhile = load.observed.counts - before
    given = list(load.observed.feedback)
    began = time.monotonic()
    while time.monotonic() - began < 5 * DRAIN_GOAL_S:
        there = await asyncio.to_thread(stored_votes, fleet, given[-1000:])
        if there == len(given[-1000:]) and await _lag(fleet) < 100:
            break
        await asyncio.sleep(0.5)
    refused = _refused(meanwhile, "votes") + _refused(meanwhile, "steps")
    return {
        "away_seconds": seconds,
        "refused": refused + len(load.observed.chat_errors) - errors,
        "drained_seconds": round(time.monotonic() - began, 1),
        "meanwhile": dict(meanwhile),
    }


async def _lag(fleet: Fleet) -> int:
    async with httpx.AsyncClient(headers=_login(fleet)) as client:
        told = [await client.get(f"{r.url}/readyz", timeout=10) for r in fleet.replicas]
    return sum(each.json()["stream"]["lag"] for each in told)


def _login(fleet: Fleet) -> dict[str, str]:
    return {"Authorization": f"Bearer {fleet.key}"}


# --- votes alone ---------------------------------------------------------------------------------


async def votes_alone(
    fleet: Fleet, interactions: Sequence[str], seconds: float, batch: int
) -> tuple[dict[str, Any], VoteLoad]:
    """Votes at both replicas, and what each process of the fleet cost per vote."""
    cpu = {name: part.cpu() for name, part in fleet.parts.items()}
    ours, began = time.process_time(), time.monotonic()
    load = await vote(
        [replica.url for replica in fleet.replicas], fleet.key, interactions,
        in_flight=IN_FLIGHT, seconds=seconds, batch=batch, prefix=f"votes{batch}",
    )  # fmt: skip
    wall = time.monotonic() - began
    used = {name: part.cpu() - cpu[name] for name, part in fleet.parts.items()}
    used["load generator"] = time.process_time() - ours
    accepted = max(1, len(load.acknowledged))
    return {
        "votes_per_request": batch,
        "in_flight": IN_FLIGHT,
        "votes": len(load.acknowledged),
        "refused": len(load.refused),
        "first_refusals": [each.decode(errors="replace")[:300] for each in load.refused[:3]],
        "votes_per_second": round(load.per_second),
        "p50_ms": round(load.percentile_ms(50), 1),
        "p99_ms": round(load.percentile_ms(99), 1),
        "cores_used": round(sum(used.values()) / wall, 2),
        "cpu_us_per_vote": {
            name: round(1e6 * seconds / accepted, 1)
            for name, seconds in sorted(used.items(), key=lambda item: -item[1])
            if seconds > 0.02
        },
    }, load


async def profiled_votes(
    fleet: Fleet, interactions: Sequence[str], seconds: float
) -> tuple[dict[str, float], VoteLoad]:
    """Where a replica spends its time on votes, one a request."""
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples"
        watching = function_profile.start(fleet.replicas[0].process.pid, seconds - 1, samples)
        load = await vote(
            [replica.url for replica in fleet.replicas], fleet.key, interactions,
            in_flight=IN_FLIGHT, seconds=seconds, prefix="profiled",
        )  # fmt: skip
        return await asyncio.to_thread(function_profile.told, watching, samples), load


# --- all of it -----------------------------------------------------------------------------------


async def drive(
    fleet: Fleet, chats: int, sessions: int, broker_away_s: float, votes_s: float
) -> tuple[dict[str, Any], SteadyLoad, list[VoteLoad]]:
    load = SteadyLoad(fleet.url, chats, sessions, key=fleet.key)
    work = asyncio.create_task(load.run())
    figures: dict[str, Any] = {}
    try:
        versions, _ = await asyncio.to_thread(
            add_versions, fleet.registry, config.EMBER.resolve(), SWAPS
        )
        figures["same_version_seconds"] = await move_champion(fleet, versions)
        figures["kills"] = await kill_in_turn(fleet, load, list(fleet.parts))
        figures["same_version_after_restart_seconds"] = await champion_moves_while_away(
            fleet, versions[0]
        )
        figures["rolling_restart"] = await restart_in_turn(fleet, load)
        if broker_away_s:
            figures["broker_away"] = await broker_away(fleet, load, broker_away_s)
        console.print({name: told for name, told in figures.items() if name != "kills"})
    finally:
        load.stopping = True
        await work
    votes: list[VoteLoad] = []
    if votes_s:
        for name in ("beat", "updater", "intake-1", "intake-2"):  # the cores are for serving
            part = fleet.parts[name]
            assert isinstance(part, Process)
            await asyncio.to_thread(part.stop, 10.0)
        for batch in (1, 20):
            told, one = await votes_alone(fleet, load.observed.interactions, votes_s, batch)
            figures.setdefault("votes_alone", []).append(told)
            votes.append(one)
            console.print(told)
        figures["votes_by_function"], one = await profiled_votes(
            fleet, load.observed.interactions, votes_s
        )
        votes.append(one)
        for name in ("intake-1", "intake-2", "beat"):
            await asyncio.to_thread(fleet.parts[name].start)
    return figures, load, votes


def lines(figures: Mapping[str, Any], kept: Mapping[str, Any]) -> list[MustShow]:
    """The figures that a reader must see, with their goals."""
    kills = figures["kills"]
    lost = sum(row["lost"] for row in kept.values())
    twice = sum(row["doubled"] for row in kept.values())
    stray = sum(
        max(0, row["chats_failed"] + row["votes_refused"] - (row["open_requests"] or 0))
        for row in kills
    )
    same = max(*figures["same_version_seconds"], figures["same_version_after_restart_seconds"])
    rolling = figures["rolling_restart"]["chats_failed"] + figures["rolling_restart"]["refused"]
    shown = [
        MustShow(f"acknowledged and lost over {len(kills)} kills", lost, "0", lost == 0),
        MustShow(f"acknowledged and there twice over {len(kills)} kills", twice, "0", twice == 0),
        MustShow(
            "chats and votes that failed, but for those open at a killed replica",
            stray,
            "0",
            stray == 0,
        ),
        MustShow("requests that failed in a rolling restart", rolling, "0", rolling == 0),
        MustShow(
            "seconds until every replica serves what the alias names, the longest",
            round(same, 2),
            f"<= {SAME_VERSION_GOAL_S:g}",
            same <= SAME_VERSION_GOAL_S,
        ),
    ]
    if away := figures.get("broker_away"):
        name = f"one broker away for {away['away_seconds']:g} s"
        drained = away["drained_seconds"]
        shown += [
            MustShow(f"{name}: refused", away["refused"], "0", away["refused"] == 0),
            MustShow(f"{name}: seconds until drained", drained, f"<= {DRAIN_GOAL_S:g}",
                     drained <= DRAIN_GOAL_S),
        ]  # fmt: skip
    for told in figures.get("votes_alone", []):
        name = f"votes accepted a second, {told['votes_per_request']} a request"
        rate, p99 = told["votes_per_second"], told["p99_ms"]
        shown += [
            MustShow(name, rate, f">= {VOTES_GOAL:,}", rate >= VOTES_GOAL),
            MustShow(f"{name}: p99 ms", p99, f"<= {P99_GOAL_MS:g}", p99 <= P99_GOAL_MS),
        ]
    return shown


def main(
    chats: Annotated[int, typer.Option(help="Clients that chat and vote.")] = 4,
    sessions: Annotated[int, typer.Option(help="Clients that append to memory.")] = 3,
    update_every: Annotated[float, typer.Option(help="Seconds between updates.")] = 30.0,
    votes: Annotated[float, typer.Option(help="Seconds of votes alone, twice; 0: none.")] = 15.0,
    broker_away: Annotated[float, typer.Option(help="Seconds that one broker is away.")] = 0.0,
    keep: Annotated[Path | None, typer.Option(help="A folder for data and logs.")] = None,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Kill every part in turn; exit code 1 when a goal was missed, but for the rate of votes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with run_fleet(folder, update_every=update_every) as fleet:
                figures, load, voted = asyncio.run(
                    drive(fleet, chats, sessions, broker_away, votes)
                )
                given = [each for one in voted for each in one.acknowledged]
                kept = accounts(fleet, load.observed, given)
                figures["told_differently"] = same_on_all(fleet, load.observed)
        except BenchError as error:
            console.print(f"burnish: {error}")
            raise typer.Exit(2) from error
    for name, row in kept.items():
        print_figures(name, row)
    figures |= {"counts": dict(load.observed.counts), **kept}
    shown = lines(figures, kept)
    different = figures["told_differently"]
    shown.append(
        MustShow("votes that the replicas tell differently", different, "0", different == 0)
    )
    print(write_results("fleet", figures, out, must_show=shown))
    sound = [line.met for line in shown if not line.line.startswith("votes accepted")]
    raise typer.Exit(0 if all(sound) else 1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        typer.run(main)
