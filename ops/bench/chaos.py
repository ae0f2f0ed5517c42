"""kill -9 under load: `python -m burnish.ops.bench.chaos [--redis]`.

Eight clients chat, judge and retract while serving, intake, worker, beat, Redis, MLflow and Kafka are
killed one after the other, a hundred times in all. Requests may fail meanwhile; whatever the service
acknowledged must afterwards be in the experience database exactly once. A process is back when it does
its work again: serving is ready, the learner has taken in what arrived after the kill, the worker
listens on its queue, Redis, MLflow and Kafka answer and serving finds nothing degraded.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import socket
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import openai
import typer
from burnish.learner.database import Database
from burnish.learner.tables import (
    CreditRow,
    InteractionRow,
    JudgementRow,
    RetractionRow,
    VersionEventRow,
)
from burnish.learner.tasks import ember
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, RunningService, run_service
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.run_state import RunState, pid_alive
from burnish.ops.supervisor.services import http_ok
from rich.console import Console
from sqlalchemy import select

POLICY = "default"
TARGETS = ("serving", "intake", "reward", "worker", "beat", "redis", "mlflow")
KILLS = 100
BEFORE_S, AFTER_S = 2.0, 2.0
RECOVERY_TIMEOUT_S = 120.0
SERVING_GOAL_S, OTHERS_GOAL_S = 6.0, 10.0  # medians
ARRIVAL_TIMEOUT_S = 90.0
JUDGED, RETRACTED = 0.6, 0.05

# One for all questions: a client of its own for each would take a third of a core from what starts.
_http = httpx.Client(timeout=2)


@dataclass
class Acknowledged:
    """Ids that the service acknowledged."""

    interactions: list[str] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    retractions: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients that continue after errors, with a short pause."""

    def __init__(self, url: str, clients: int, seed: int = 0) -> None:
        self._client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="bench", max_retries=0, timeout=30
        )
        self._clients = clients
        self._rng = random.Random(seed)
        self.acknowledged = Acknowledged()
        self.stopping = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client_loop(f"chaos-{number}"))
        await self._client.close()

    async def _client_loop(self, user: str) -> None:
        while not self.stopping:
            try:
                await self._chat_once(user)
            except openai.APIError as error:
                self.acknowledged.errors[type(error).__name__] += 1
                await asyncio.sleep(0.2)

    async def _chat_once(self, user: str) -> None:
        task = ember.sample(self._rng, family="arithmetic")
        messages: Any = list(task.messages)
        answer = await self._client.chat.completions.create(
            model=POLICY, messages=messages, user=user, max_tokens=48
        )
        self.acknowledged.interactions.append(answer.id)
        if self._rng.random() >= JUDGED:
            return
        thumb = {
            "interaction_id": answer.id,
            "name": "thumbs",
            "value": self._rng.choice(("up", "down")),
        }
        response: Any = await self._client.post("/feedback", body=thumb, cast_to=object)
        self.acknowledged.feedback.append(response["id"])
        if self._rng.random() < RETRACTED:
            await self._client.delete(f"/feedback/{response['id']}", cast_to=object)
            self.acknowledged.retractions.append(response["id"])


async def kill_in_turn(service: RunningService, load: Load, targets: Iterable[str]) -> list[dict]:
    """Kill each target once under load; returns per kill how long recovery took."""
    console, kills = Console(), []
    for target in targets:
        await asyncio.sleep(BEFORE_S)
        before = len(load.acknowledged.interactions)
        begin = time.monotonic()
        pid = await _kill(service, target)
        away_s = await _recovery(service, target, pid, begin)
        console.print(f"killed {target} ({pid}); back after {away_s:.1f} s")
        await asyncio.sleep(AFTER_S)
        answers = len(load.acknowledged.interactions) - before
        kills.append({"target": target, "away_seconds": round(away_s, 2), "answers_since": answers})
    return kills


async def _kill(service: RunningService, target: str) -> int:
    """Kill the process, once there is one: it may be between an end of its own and a new start."""
    begin = time.monotonic()
    while time.monotonic() - begin < RECOVERY_TIMEOUT_S:
        with suppress(ProcessLookupError, BenchError):
            pid = service.pid(target)
            os.kill(pid, signal.SIGKILL)
            return pid
        await asyncio.sleep(0.1)
    raise BenchError(f"{target} does not run, and nobody killed it")


async def _recovery(service: RunningService, target: str, old: int, begin: float) -> float:
    """Seconds until a new process runs and does its work."""
    killed_at = time.time()
    while time.monotonic() - begin < RECOVERY_TIMEOUT_S:
        with suppress(BenchError):  # it waits for its next start
            pid = service.pid(target)
            if (
                pid != old
                and pid_alive(pid)
                and await asyncio.to_thread(works_again, service, target, killed_at)
            ):
                return time.monotonic() - begin
        await asyncio.sleep(0.1)
    raise BenchError(f"{target} did not come back within {RECOVERY_TIMEOUT_S:.0f} s")


def works_again(service: RunningService, target: str, killed_at: float) -> bool:
    """Whether a process that was killed does again what the others need it for."""
    try:
        ready = _http.get(f"{service.url}/readyz")
        if target == "serving":
            return ready.status_code == 200
        if target == "mlflow":
            return http_ok(f"{service.mlflow_url}/health")
        if target in ("reward", "worker"):
            return _is_connected(service.pid(target), run_state.read(service.data_dir))
        if target == "redis":
            return ready.json()["status"] == "ok"
        if target == "kafka" and not _answers(run_state.read(service.data_dir)):
            return False
        ticks = _http.get(f"{service.url}/v1/learner").json()["ticks"]
    except (httpx.HTTPError, ValueError):
        return False
    return any(tick["kind"] == "intake" and tick["at"] > killed_at for tick in ticks)


def _answers(state: RunState | None) -> bool:
    """Whether the embedded Kafka takes connections."""
    if state is None or state.kafka is None:
        return False
    host, _, port = state.kafka.rpartition("@")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def _is_connected(pid: int, state: RunState | None) -> bool:
    """Whether a process has a TCP connection to the embedded Redis. A worker makes one once it can
    run what it takes from its queue."""
    if state is None or state.redis_port is None:
        return False
    established, there = "01", f":{state.redis_port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {
        f"socket:[{line[9]}]"
        for line in lines
        if line[2].endswith(there) and line[3] == established
    }
    held = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            held.add(os.readlink(handle))
    return bool(held & sockets)


async def run_under_kills(
    service: RunningService, targets: Iterable[str], clients: int
) -> tuple[Load, list[dict]]:
    load = Load(service.url, clients)
    work = asyncio.create_task(load.run())
    try:
        kills = await kill_in_turn(service, load, targets)
    finally:
        load.stopping = True
        await work
    return load, kills


def stored(database: Database) -> dict[str, list[str]]:
    """Ids in the experience database, duplicates included."""
    with database.read() as session:
        used = session.scalars(select(CreditRow.event)).all()
        return {
            "interactions": list(session.scalars(select(InteractionRow.id))),
            "feedback": list(session.scalars(select(JudgementRow.id))),
            "retractions": list(session.scalars(select(RetractionRow.feedback_id))),
            "experience": [plain(key) for key in used],
        }


def learnt(service: RunningService) -> Counter[str]:
    """How often each judgement was new to the champion or one of its ancestors."""
    from burnish.serving.registry import PolicyRegistry, signing_keys

    registry = PolicyRegistry(service.mlflow_uri, keys=signing_keys(service.data_dir))
    parents = {version.version: version.parent for version in registry.versions(POLICY)}
    champion = registry.champion(POLICY)
    step = champion.version if champion else None
    lineage = set()
    while step is not None:
        lineage.add(step)
        step = parents.get(step)
    database = Database(service.database_url)
    with database.read() as session:
        rows = session.execute(
            select(VersionEventRow.version, VersionEventRow.event).where(
                VersionEventRow.policy == POLICY
            )
        ).all()
    database.close()
    return Counter(plain(event) for version, event in rows if version in lineage)


def plain(key: object) -> str:
    """The client's id out of `tenant/id#revision`."""
    return str(key).rpartition("/")[2].partition("#")[0]


def wait_until_stored(service: RunningService, acknowledged: Acknowledged) -> dict[str, list[str]]:
    """Wait until everything acknowledged is stored, up to ARRIVAL_TIMEOUT_S; returns what is."""
    database = Database(service.database_url)
    deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
    try:
        while True:
            found = stored(database)
            missing = any(figures["missing"] for figures in compare(acknowledged, found).values())
            if not missing or time.monotonic() > deadline:
                return found
            time.sleep(1.0)
    finally:
        database.close()


def compare(acknowledged: Acknowledged, found: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """Per kind: number acknowledged, missing, and stored more than once."""
    rows = {}
    for name in ("interactions", "feedback", "retractions"):
        ids: list[str] = getattr(acknowledged, name)
        counts = Counter(plain(key) for key in found[name])
        rows[name] = {
            "acknowledged": len(ids),
            "missing": sum(counts[key] == 0 for key in ids),
            "twice": sum(counts[key] > 1 for key in ids),
        }
    judged, gone = Counter(found["experience"]), set(acknowledged.retractions)
    standing = [key for key in acknowledged.feedback if key not in gone]
    rows["experience"] = {
        "acknowledged": len(standing),
        "missing": sum(judged[key] == 0 for key in standing),
        "twice": sum(count > 1 for count in judged.values()),
    }
    return rows


def main(
    kafka: Annotated[
        bool, typer.Option("--kafka/--redis", help="The event stream that is used, and killed.")
    ] = True,
    clients: Annotated[int, typer.Option(help="Clients at a time.")] = 8,
    kills: Annotated[int, typer.Option(help="How many kills, each process in turn.")] = KILLS,
    update_every: Annotated[float, typer.Option(help="Seconds between updates.")] = 10.0,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    """Kill one process after the other; exit code 1 when something acknowledged is not there once."""
    turns = itertools.cycle([*TARGETS, *(["kafka"] if kafka else [])])
    targets = list(itertools.islice(turns, kills))
    env = {"BURNISH_UPDATE_EVERY": str(update_every)}
    with (
        tempfile.TemporaryDirectory() as scratch,
        run_service(Path(scratch), kafka=kafka, env=env) as service,
    ):
        load, deaths = asyncio.run(run_under_kills(service, targets, clients))
        found = wait_until_stored(service, load.acknowledged)
        counted = learnt(service)
    rows = compare(load.acknowledged, found)
    for name, row in rows.items():
        print_figures(name, row)
    figures = {
        "stream": "kafka" if kafka else "redis",
        "kills": len(deaths),
        "seconds_until_back": back_again(deaths),
        "deaths": deaths,
        "errors_meanwhile": dict(load.acknowledged.errors),
        "judgements_learnt": len(counted),
        "judgements_learnt_twice": sum(times > 1 for times in counted.values()),
        **rows,
    }
    must_show = shown(figures, rows)
    print(write_results("chaos", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(line.met for line in must_show[:2]) else 1)


def back_again(deaths: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Per process: median and worst seconds until it worked again."""
    seconds: dict[str, list[float]] = {}
    for death in deaths:
        seconds.setdefault(death["target"], []).append(death["away_seconds"])
    return {
        target: {"median": statistics.median(each), "worst": max(each)}
        for target, each in seconds.items()
    }


def shown(figures: Mapping[str, Any], rows: Mapping[str, Mapping[str, int]]) -> list[MustShow]:
    lost = sum(row["missing"] for row in rows.values())
    twice = sum(row["twice"] for row in rows.values()) + figures["judgements_learnt_twice"]
    medians = {name: each["median"] for name, each in figures["seconds_until_back"].items()}
    serving = medians.pop("serving", 0.0)
    others = max(medians.values(), default=0.0)
    kills = figures["kills"]
    return [
        MustShow(f"acknowledged and lost over {kills} kills", lost, "0", lost == 0),
        MustShow(f"acknowledged and counted twice over {kills} kills", twice, "0", twice == 0),
        MustShow(
            "serving back, median seconds",
            serving,
            f"<= {SERVING_GOAL_S:.0f}",
            serving <= SERVING_GOAL_S,
        ),
        MustShow(
            "the slowest of the others back, median seconds",
            others,
            f"<= {OTHERS_GOAL_S:.0f}",
            others <= OTHERS_GOAL_S,
        ),
    ]


if __name__ == "__main__":
    typer.run(main)
