"""Erasing one of 50 users on a running service: `python -m burnish.ops.bench.erase`.

Everybody chats, judges, comments and is remembered, with markers of their own planted in all that they say; policy versions are
trained on it. Then one is erased, and their markers are searched for: in every file of the data folder, Kafka's log,
SQLite's and Redis's files among them, in every key of Redis, and in what the stream still gives to a reader. The same
search must find everybody else's, or it would prove nothing. Whether a rebuilt version equals one that
never saw them is asked in this process (lib/unlearning.py).
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import typer
from burnish.feedback.contract import TOPICS
from burnish.feedback.errors import KeyDestroyed, UnknownEvent
from burnish.feedback.events import decode
from burnish.feedback.redis_clients import open_client
from burnish.feedback.stream.opening import open_stream
from burnish.learner.database import Database
from burnish.learner.tables import JudgementRow
from burnish.ops.bench.lib.results import FOLDER, MustShow, print_figures, write_results
from burnish.ops.bench.lib.service import BenchError, RunningService, run_service
from burnish.ops.bench.lib.unlearning import compare
from burnish.ops.commands.deadletters import stream_settings
from burnish.ops.settings import UpSettings
from sqlalchemy import func, select

USERS, CHATS = 50, 3
VOTES = USERS * CHATS * 2  # a thumb and a comment on each
ARRIVAL_S = 300.0
# What is measured is what is left, not what is learnt: updates are short, the gate asks little, and the rule learns
# from votes as they are, also where they foretell nothing of other people's.
SETTINGS = {
    "BURNISH_RULE": "pg",
    "BURNISH_UPDATE_STEPS": "2",
    "BURNISH_ANSWERS_PER_STEP": "16",
    "BURNISH_GATE_TASKS_PER_FAMILY": "1",
}


@dataclass(frozen=True)
class Person:
    name: str
    marker: str

    @classmethod
    def new(cls) -> Person:
        return cls(f"user-{secrets.token_hex(8)}", f"mark{secrets.token_hex(8)}")

    @property
    def traces(self) -> tuple[bytes, ...]:
        return self.name.encode(), self.marker.encode()


class Api:
    """The service as a product uses it, and as its operator does."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=120)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        if not answer.is_success:
            raise BenchError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()

    def get(self, path: str) -> dict[str, Any]:
        return self._http.get(path).raise_for_status().json()


def live(api: Api, person: Person, liked: bool) -> None:
    """A person's chats in a session, a response, judgements with a comment, and a memory."""
    session = f"session-{secrets.token_hex(8)}"
    for number in range(CHATS):
        said = f"I am {person.marker}. What is {number} + {3 * number}?"
        messages = [{"role": "user", "content": said}]
        asked = {"model": "default", "messages": messages, "user": person.name, "max_tokens": 24}
        kept = {"session_id": session} if number else {}
        answer = api.post("/v1/chat/completions", **asked, **kept)
        about = {"interaction_id": answer["id"], "user": person.name}
        api.post("/v1/feedback", **about, name="thumbs", value="up" if liked else "down")
        api.post("/v1/feedback", **about, name="comment", value=f"{person.marker} thinks so")
    api.post(
        "/v1/responses",
        model="default",
        input=f"Hello from {person.marker}",
        user=person.name,
        max_output_tokens=8,
    )
    api.post("/v1/memory/records", user=person.name, text=f"{person.marker} lives by the sea")


def wait_for(what: str, seconds: float, ready: Any) -> float:
    """Seconds until `ready()` is true. Raises BenchError past the time."""
    began = time.monotonic()
    while not ready():
        if time.monotonic() - began > seconds:
            raise BenchError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return time.monotonic() - began


def files_with(folder: Path, traces: Sequence[bytes]) -> list[str]:
    """The files below the folder, by name, that hold any of these bytes."""
    found = []
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):  # gone meanwhile, or a socket
            if path.is_file() and any(trace in path.read_bytes() for trace in traces):
                found.append(str(path.relative_to(folder)))
    return found


def keys_with(client: Any, traces: Sequence[bytes]) -> list[str]:
    return [
        key.decode(errors="replace")
        for key in client.scan_iter(count=1000)
        if any(trace in key + content for content in [_content(client, key)] for trace in traces)
    ]


def _content(client: Any, key: bytes) -> bytes:
    readers = {
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"list": lambda key: client.lrange(key, 0, -1),
        b"stream": client.xrange,
        b"string": client.get,
    }
    return repr(readers.get(client.type(key), client.dump)(key)).encode()


def read_events(service: RunningService) -> Iterator[bytes]:
    """All that the stream still gives to a reader, dead letters too."""
    stream = open_stream(stream_settings(UpSettings(data_dir=service.data_dir)))
    try:
        for topic in TOPICS:
            for partition in stream.partitions(topic):
                after = None
                while records := stream.read(topic, partition, after, 500):
                    for record in records:
                        yield repr((record.key, dict(record.headers))).encode()
                        with suppress(KeyDestroyed, UnknownEvent):
                            yield decode(record).model_dump_json().encode()
                    after = records[-1].offset
    finally:
        stream.close()


def search(service: RunningService, client: Any, people: Sequence[Person]) -> dict[str, list[str]]:
    """Where any of these people's traces are."""
    traces = [trace for person in people for trace in person.traces]
    events = [e for e in read_events(service) if any(trace in e for trace in traces)]
    return {
        "files": files_with(service.data_dir, traces),
        "redis_keys": keys_with(client, traces),
        "readable_events": [e[:80].decode(errors="replace") for e in events],
    }


def judgements(database: Database, user: str | None = None) -> int:
    with database.read() as session:
        query = select(func.count()).select_from(JudgementRow)
        return (
            session.scalar(query if user is None else query.where(JudgementRow.user == user)) or 0
        )


def main(
    kafka: Annotated[bool, typer.Option(help="With a Kafka node of its own.")] = True,
    train_s: Annotated[float, typer.Option(help="Seconds to wait for a version of theirs.")] = 300,
    rebuild_s: Annotated[float, typer.Option(help="Seconds to wait for the rebuilt one.")] = 900,
    votes: Annotated[int, typer.Option(help="Of 50 people, to compare what is rebuilt.")] = 1000,
    steps: Annotated[int, typer.Option(help="Training steps on these.")] = 24,
    out: Annotated[Path, typer.Option(help="Where the JSON goes.")] = FOLDER,
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="burnish-erase-") as scratch,
        run_service(Path(scratch), kafka=kafka, env=SETTINGS) as service,
    ):
        figures = measure(service, train_s, rebuild_s)
    figures["kafka"] = kafka
    figures["rebuilt"] = rebuilt = compare(votes, steps, seeds=(1, 2, 3))
    distance = rebuilt["rebuilt_to_never_saw"]["mean"]
    apart = max(rebuilt["between_seeds"]["all"])
    left, others = figures["places_with_the_erased"], figures["others_judgements_kept"]
    versions = figures["versions_that_held_them"]
    must_show = [
        MustShow("files, Redis keys and readable events with the erased user", left, "0", not left),
        MustShow(
            "judgements of the other 49 kept",
            others,
            f"{VOTES - 2 * CHATS} of {VOTES - 2 * CHATS}",
            others == VOTES - 2 * CHATS,
        ),
        MustShow(
            "seconds from the request until every store was clear",
            figures["stores_clear_s"],
            "told",
            True,
        ),
        MustShow(
            f"seconds until versions that held them ({versions}) were replaced and deleted",
            figures["weights_clear_s"] if versions else None,
            f"at least one version, within {rebuild_s:.0f}",
            bool(versions) and figures["weights_clear_s"] is not None,
        ),
        MustShow(
            "nats per token from the rebuilt version to those that never saw them",
            distance,
            f"<= {apart}, between seeds of these",
            distance <= apart,
        ),
    ]
    print_figures("one of 50 users erased", figures)
    print(write_results("erase", figures, out, must_show=must_show))
    raise typer.Exit(0 if all(shown.met for shown in must_show) else 1)


def measure(service: RunningService, train_s: float, rebuild_s: float) -> dict[str, Any]:
    api, database = Api(service.url), Database(service.database_url)
    people = [Person.new() for _ in range(USERS)]
    for number, person in enumerate(people):
        live(api, person, liked=number % 3 > 0)
    wait_for("all judgements in the database", ARRIVAL_S, lambda: judgements(database) >= VOTES)
    with suppress(BenchError):
        wait_for("a version", train_s, lambda: _champion(api) > 1)
    erased, *others = people
    settings = stream_settings(UpSettings(data_dir=service.data_dir))
    client = open_client(settings.redis_url)
    before = search(service, client, [erased])
    champion = _champion(api)
    counted = api.post("/v1/erase", user=erased.name, dry_run=True)

    began = time.monotonic()
    told = api.post("/v1/erase", user=erased.name, why="benchmark")
    receipt = f"/v1/erase/{told['id']}"
    wait_for("stores", ARRIVAL_S, lambda: api.get(receipt)["state"] in ("weights", "finished"))
    wait_for("Redis's file", ARRIVAL_S, lambda: _rewritten(client))
    stores_clear_s = time.monotonic() - began
    after = search(service, client, [erased])
    weights_clear_s: float | None = None
    with suppress(BenchError):
        wait_for("weights", rebuild_s, lambda: api.get(receipt)["state"] == "finished")
        weights_clear_s = time.monotonic() - began
    finally_ = search(service, client, [erased])
    final = api.get(receipt)
    left = sum(map(len, finally_.values()))
    return {
        "users": USERS,
        "places_with_them_before": {where: len(found) for where, found in before.items()},
        "dry_run": counted["removed"],
        "stores_clear_s": stores_clear_s,
        "places_with_the_erased_then": sum(map(len, after.values())),
        "champion_before": champion,
        "champion_after": _champion(api),
        "weights_clear_s": weights_clear_s,
        "versions_that_held_them": final["versions"].get("default", []),
        "places_with_the_erased": left,
        "where": finally_,
        "places_with_the_others": {
            where: len(found) for where, found in search(service, client, others).items()
        },
        "others_judgements_kept": judgements(database),
        "erased_judgements_left": judgements(database, erased.name),
        "receipt": final,
        "audit_log_whole": api.get("/v1/audit?check=true")["problems"] == [],
    }


def _champion(api: Api) -> int:
    return int(str(api.get("/v1/policies/default")["champion"]).rpartition("@")[2])


def _rewritten(client: Any) -> bool:
    told = client.info("persistence")
    return not told.get("aof_rewrite_in_progress") and not told.get("aof_rewrite_scheduled")


if __name__ == "__main__":
    typer.run(main)
