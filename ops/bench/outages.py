"""What the service stands on goes away under load: `python -m burnish.ops.bench.outages [--kafka]`.

Clients stream chats, vote and append to memory while, one after the other, the disk is filled,
Redis, PostgreSQL (the experience database), MLflow's page and Kafka are stopped and killed, each
for a minute. Chat must not fail meanwhile; once it is back, everything must be ready, drained and
consumed again within half a minute; what was acknowledged must be there exactly once. Root mounts
the small disk; without it, or without PostgreSQL, those outages are left out and named.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import openai
import typer
from burnish.learner.database import Database
from burnish.learner.tables import InteractionRow, JudgementRow
from burnish.ops.bench.lib.postgres import Postgres, installed, run_postgres
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, RunningService, run_service
from burnish.ops.bench.lib.small_disk import SmallDisk, mount_small_disk
from burnish.ops.bench.lib.steady_load import BrokenOff, Observed, SteadyLoad
from rich.console import Console
from sqlalchemy import func, select

DISK_MB, DISK_LOW_MB = 1024, 64
CALM_S = 5.0  # between two outages
RECOVERY_GOAL_S, RECOVERY_TIMEOUT_S = 30.0, 180.0
HELD_DOWN_POLL_S = 0.05


@dataclass(frozen=True)
class Outage:
    """A name, and what brings it about: away inside the `with`, back after it."""

    name: str
    away: Callable[[], AbstractContextManager[None]]


def outages(
    service: RunningService, disk: SmallDisk | None, postgres: Postgres | None, kafka: bool
) -> list[Outage]:
    """All that can be brought about here, in turn."""
    found = [Outage("disk full", lambda: _full(disk))] if disk is not None else []
    for name in ("redis", "mlflow", *(["kafka"] if kafka else [])):
        found.append(Outage(f"{name} stopped", lambda name=name: _stopped(service, name)))
        found.append(Outage(f"{name} killed", lambda name=name: _held_down(service, name)))
    if postgres is not None:
        found.append(Outage("postgresql stopped", lambda: _database_stopped(postgres)))
        found.append(Outage("postgresql killed", lambda: _database_killed(postgres)))
    return found


@contextmanager
def _full(disk: SmallDisk) -> Iterator[None]:
    disk.fill()
    try:
        yield
    finally:
        disk.clear()


@contextmanager
def _stopped(service: RunningService, name: str) -> Iterator[None]:
    """SIGSTOP: it holds its connections and answers nothing."""
    group = service.pid(name)
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


@contextmanager
def _held_down(service: RunningService, name: str) -> Iterator[None]:
    """SIGKILL, again for each process that the supervisor starts in its place."""
    holding = asyncio.create_task(_kill_again(service, name))
    try:
        yield
    finally:
        holding.cancel()


async def _kill_again(service: RunningService, name: str) -> None:
    while True:
        with suppress(ProcessLookupError, BenchError):  # not started again yet
            os.killpg(service.pid(name), signal.SIGKILL)
        await asyncio.sleep(HELD_DOWN_POLL_S)


@contextmanager
def _database_stopped(postgres: Postgres) -> Iterator[None]:
    postgres.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        postgres.signal(signal.SIGCONT)


@contextmanager
def _database_killed(postgres: Postgres) -> Iterator[None]:
    postgres.signal(signal.SIGKILL)
    try:
        yield
    finally:
        postgres.start()


# --- what is observed ----------------------------------------------------------------------------


async def run_outages(
    service: RunningService, load: SteadyLoad, turns: Sequence[Outage], away_s: float
) -> list[dict[str, Any]]:
    """Each outage once under load; returns a row of figures for each."""
    console, rows = Console(), []
    for outage in turns:
        await asyncio.sleep(CALM_S)
        counts, errors = load.observed.counts.copy(), len(load.observed.chat_errors)
        with outage.away():
            await asyncio.sleep(away_s)
            meanwhile = load.observed.counts - counts
        recovery = await _recovery(service, load)
        failed = load.observed.chat_errors[errors:]
        rows.append(
            {
                "outage": outage.name,
                "away_seconds": away_s,
                "meanwhile": dict(meanwhile),
                "chat_errors": len(failed),
                "first_errors": failed[:3],
                "recovery_seconds": recovery,
            }
        )
        back = "did not recover" if recovery is None else f"recovered in {recovery:.1f} s"
        console.print(f"{outage.name}: {meanwhile['chats']} chats, {len(failed)} failed; {back}")
    return rows


async def _recovery(service: RunningService, load: SteadyLoad) -> float | None:
    """Seconds until it is ready without a problem, the spool is empty, and a vote given since is in
    the experience database; None: not within the timeout."""
    begin = time.monotonic()
    vote: str | None = None
    while time.monotonic() - begin < RECOVERY_TIMEOUT_S:
        try:
            vote = vote or await load.vote(await load.chat("outages-probe"))
        except (openai.APIError, BrokenOff):
            await asyncio.sleep(0.2)
            continue
        if await asyncio.to_thread(_sound, service, vote):
            return round(time.monotonic() - begin, 2)
        await asyncio.sleep(0.2)
    return None


def _sound(service: RunningService, vote: str) -> bool:
    state = readiness(service)
    if state.get("status") != "ok" or state["stream"]["lag"] > 100:
        return False
    database = Database(service.database_url)
    try:
        with database.read() as session:
            stored = select(func.count()).where(JudgementRow.id == vote)
            return bool(session.scalar(stored))
    finally:
        database.close()


def readiness(service: RunningService) -> dict[str, Any]:
    """The body of /readyz; empty where nothing answers."""
    try:
        return httpx.get(f"{service.url}/readyz", timeout=10).json()
    except (httpx.TransportError, ValueError):
        return {}


# --- what must be there --------------------------------------------------------------------------


def lost_and_doubled(
    acknowledged: Sequence[str], stored: Sequence[str], excused: int = 0
) -> dict[str, int]:
    """How many were acknowledged, are missing beyond the excused, and are there more than once."""
    counts = Counter(stored)
    missing = sum(counts[key] == 0 for key in acknowledged)
    return {
        "acknowledged": len(acknowledged),
        "excused": excused,
        "lost": max(0, missing - excused),
        "doubled": sum(counts[key] > 1 for key in acknowledged),
    }


def accounts(service: RunningService, observed: Observed) -> dict[str, dict[str, int]]:
    """Lost and doubled for interactions, votes and steps, once all had time to arrive. Answers that
    the service itself counts as unrecorded are excused: it said that it would not learn from them."""
    unrecorded = int(readiness(service).get("unrecorded", 0))
    database = Database(service.database_url)
    deadline = time.monotonic() + RECOVERY_TIMEOUT_S
    while True:
        with database.read() as session:
            interactions = session.scalars(select(InteractionRow.id)).all()
            votes = session.scalars(select(JudgementRow.id)).all()
        rows = {
            "interactions": lost_and_doubled(observed.interactions, interactions, unrecorded),
            "votes": lost_and_doubled(observed.feedback, votes),
        }
        if not any(row["lost"] for row in rows.values()) or time.monotonic() > deadline:
            break
        time.sleep(1.0)
    database.close()
    steps = [step for session in observed.steps for step in _steps(service, session)]
    given = [step for ids in observed.steps.values() for step in ids]
    return {**rows, "steps": lost_and_doubled(given, steps)}


def _steps(service: RunningService, session: str) -> list[str]:
    """The ids of all steps of a session."""
    found: list[str] = []
    after = ""
    while True:
        params = {"limit": "1000", **({"after": after} if after else {})}
        url = f"{service.url}/v1/memory/sessions/{session}/events"
        page = httpx.get(url, params=params, timeout=30).raise_for_status().json()["events"]
        if not page:
            return found
        found += [step["id"] for step in page]
        after = page[-1]["cursor"]


def lines(rows: Sequence[Mapping[str, Any]], kept: Mapping[str, Any]) -> list[MustShow]:
    """The figures that a reader must see, with their goals."""
    shown = []
    for row in rows:
        name, errors, took = row["outage"], row["chat_errors"], row["recovery_seconds"]
        in_time = took is not None and took <= RECOVERY_GOAL_S
        shown.append(MustShow(f"{name}: chats that failed", errors, "0", errors == 0))
        goal = f"<= {RECOVERY_GOAL_S:g}"
        shown.append(MustShow(f"{name}: seconds until all is well", took, goal, in_time))
    for what in ("lost", "doubled"):
        count = sum(row[what] for row in kept.values())
        shown.append(MustShow(f"acknowledged and {what}", count, "0", count == 0))
    return shown


def main(
    away: Annotated[float, typer.Option(help="Seconds that each is away.")] = 60.0,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="On a Kafka node, and stop it too.")
    ] = False,
    only: Annotated[str, typer.Option(help="Only outages whose name holds this.")] = "",
    chats: Annotated[int, typer.Option(help="Clients that chat and vote.")] = 6,
    sessions: Annotated[int, typer.Option(help="Clients that append to memory.")] = 2,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """One outage after the other; exit code 1 when a goal was missed."""
    env = {"BURNISH_UPDATE_EVERY": "20", "BURNISH_DISK_LOW_MB": str(DISK_LOW_MB)}
    left_out = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = _small_disk(scratch / "data")
        if disk is None:
            left_out.append("disk full: no small file system can be mounted")
        else:
            stack.callback(disk.unmount)
        binaries, postgres = installed(), None
        if binaries is None:
            left_out.append("postgresql: not installed")
        else:
            postgres = stack.enter_context(run_postgres(binaries))
            env["BURNISH_DATABASE_URL"] = postgres.url
        service = stack.enter_context(run_service(scratch, kafka=kafka, env=env))
        turns = [o for o in outages(service, disk, postgres, kafka) if only in o.name]
        load, rows = asyncio.run(_under_load(service, turns, away, chats, sessions))
        kept = accounts(service, load.observed)
    for name, row in kept.items():
        print_figures(name, row)
    shown = lines(rows, kept)
    figures = {
        "stream": "kafka" if kafka else "redis",
        "outages": rows,
        "left_out": left_out,
        "counts": dict(load.observed.counts),
        **kept,
    }
    name = "outages-kafka" if kafka else "outages"
    print(write_results(name, figures, out, must_show=shown))
    raise typer.Exit(0 if all(line.met for line in shown) else 1)


async def _under_load(
    service: RunningService, turns: Sequence[Outage], away_s: float, chats: int, sessions: int
) -> tuple[SteadyLoad, list[dict[str, Any]]]:
    load = SteadyLoad(service.url, chats, sessions)
    work = asyncio.create_task(load.run())
    try:
        rows = await run_outages(service, load, turns, away_s)
    finally:
        load.stopping = True
        await work
    return load, rows


def _small_disk(folder: Path) -> SmallDisk | None:
    try:
        return mount_small_disk(folder, DISK_MB)
    except OSError:
        return None


if __name__ == "__main__":
    typer.run(main)
