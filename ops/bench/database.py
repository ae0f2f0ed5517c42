"""The experience database at size, on a real PostgreSQL: `python -m burnish.ops.bench.database`.

Filled with 10 million interactions and 3 million judgements, then timed: intake from a stream, an
update's load, what pages and scrapers ask, retention, the erasure of the busiest user; and migrations
all the way down and up again. Of every statement on those paths the plan is looked at: none may read a
large table whole. `--folder` keeps the cluster, so that parts can be measured again.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import redis
import torch
import typer
from alembic import command
from burnish.feedback.events import Completion, Event, FeedbackEvent, InteractionEvent, encode
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner.compactor.online import episodes
from burnish.learner.database import Database, alembic_config
from burnish.learner.gate.calibration import Calibration
from burnish.learner.intake.consume import consume
from burnish.learner.intake.erasure import BATCH, erase_user, expire
from burnish.learner.intake.unmatched import reasons
from burnish.learner.lease import Lease
from burnish.learner.metrics import Metrics
from burnish.learner.report.reading import read
from burnish.learner.reward import experience
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import InteractionRow, VersionEventRow
from burnish.learner.tasks import TaskSource
from burnish.learner.update.attempts import Attempt, Attempts
from burnish.learner.update.data import load_training_data
from burnish.ops.bench.lib import filled_database as filled
from burnish.ops.bench.lib.filled_database import BASE, CHAMPION, POLICY, START, TABLES, YEAR, Size
from burnish.ops.bench.lib.plans import watched
from burnish.ops.bench.lib.postgres import Postgres, installed, kept_postgres
from burnish.ops.bench.lib.private_redis import private_redis
from burnish.ops.bench.lib.results import FOLDER, MustShow, merged, print_figures, write_results
from prometheus_client import generate_latest
from sqlalchemy import delete, select, text

LOADING = {  # nothing of it has to survive a power failure
    "fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "8GB",
    "maintenance_work_mem": "1GB", "shared_buffers": "1GB", "autovacuum": "off",
    "synchronous_commit": "off",
}  # fmt: skip
SERVING = {"shared_buffers": "2GB", "effective_cache_size": "8GB", "random_page_cost": "1.1"}
# Of a model only what the load asks of it. Almost every feature is in the database already.
NO_MODEL: Any = SimpleNamespace(
    sha256=BASE,
    config=SimpleNamespace(num_hidden_layers=4),
    model=SimpleNamespace(get_input_embeddings=lambda: SimpleNamespace(num_embeddings=1 << 30)),
    states=lambda sequences, _: [torch.zeros(len(s), filled.FEATURE_BYTES // 6) for s in sequences],
)
ROUNDS = 10
EVENTS = 1000
JUDGED = 230  # of them; the others are interactions


@contextmanager
def running(postgres: Postgres, settings: dict[str, str]) -> Iterator[Database]:
    """The cluster with these settings of the server."""
    postgres.start(**settings)
    database = Database(postgres.url)
    try:
        yield database
    finally:
        database.close()
        postgres.stop("fast")


class Paths:
    """What is timed, each as a median over rounds with the statements' plans."""

    def __init__(self, database: Database, redis_url: str, scratch: Path) -> None:
        self.database, self.redis_url = database, redis_url
        self.client = redis.Redis.from_url(redis_url)
        self.settings = LearnerSettings(data_dir=scratch, redis_url=redis_url)
        self.scans: list[str] = []

    def measure(self) -> dict[str, Any]:
        with self.database.read() as session:
            (_, _, _), (tenant, user, theirs) = users = filled.busiest_users(session)
        busiest = users[0]
        self.forget_attempts()
        with self.database.write() as session:  # an earlier run's lineage
            newer = (VersionEventRow.policy == POLICY, VersionEventRow.version > CHAMPION)
            session.execute(delete(VersionEventRow).where(*newer))
        figures = {
            "update_begin": self.timed(self.begin),
            "update_load": self.timed(self.load),
            "report_read": self.timed(self.report),
            "intake_of_1000_events": self.intake(),
            "update_lineage_of_2000": self.timed(self.lineage, rounds=1),
            "compactor_episodes": self.timed(lambda: episodes(self.database, self.client)),
            "metrics_scrape": self.timed(lambda: generate_latest(Metrics(self.database).registry)),
            "unmatched_reasons": self.timed(self.unmatched),
            "prompts_of_a_policy": self.timed(self.prompts),
            f"retention_of_{BATCH}": self.timed(self.retain),
            "erasure_of_a_middling_user": self.timed(lambda: self.erase(tenant, user), rounds=1),
            "erasure_of_the_busiest_user": self.timed(lambda: self.erase(*busiest[:2]), rounds=1),
        }
        figures["erasure_of_a_middling_user"]["interactions"] = theirs
        figures["erasure_of_the_busiest_user"]["interactions"] = busiest[2]
        return {"paths": figures, "whole_tables_read": self.scans}

    def timed(self, work: Callable[[], object], rounds: int = 5) -> dict[str, Any]:
        """Seconds of each round; the first one finds its pages on disk, where they do not fit."""
        took = []
        with watched(self.database.engine) as statements:
            for _ in range(rounds):
                began = time.perf_counter()
                work()
                took.append(time.perf_counter() - began)
        self.scans += statements.scans(self.database.engine, TABLES)
        return {
            "median_s": round(statistics.median(took), 4),
            "first_s": round(took[0], 4),
            "longest_s": round(max(took), 4),
        }

    def intake(self) -> dict[str, Any]:
        stream = RedisStream(self.redis_url)
        stream.ensure_topics()
        seconds = []
        with watched(self.database.engine) as statements:
            for number in range(ROUNDS):
                stream.publish([encode(event) for event in fresh_events(self.database, number)])
                with Lease(self.client, "intake", 30, database=self.database) as lease:
                    began = time.perf_counter()
                    tick = consume(self.database, stream, lease, seconds=60)
                    seconds.append(time.perf_counter() - began)
                counted = tick.counts if tick else {}
                if counted.get("interactions", 0) + counted.get("judgements", 0) != EVENTS:
                    raise RuntimeError(f"the intake took in {counted}, not {EVENTS} events")
        stream.close()
        self.scans += statements.scans(self.database.engine, TABLES)
        return {
            "median_s": round(statistics.median(seconds), 4),
            "first_s": round(seconds[0], 4),
            "longest_s": round(max(seconds), 4),
        }

    def begin(self) -> None:
        with Lease(self.client, f"update:{POLICY}", 30, database=self.database) as lease:
            attempts = Attempts(self.database, lease, POLICY)
            begun = attempts.begin(CHAMPION, self.settings)
            if not isinstance(begun, Attempt):
                raise RuntimeError(begun.reason)
            attempts.events(begun)
        self.forget_attempts()

    def forget_attempts(self) -> None:
        """The next round, or run, is to find as much as this one."""
        with self.database.write() as session:
            session.execute(text("DELETE FROM attempt WHERE id <> 'bench'"))

    def load(self) -> None:
        data = load_training_data(
            self.database,
            NO_MODEL,
            self.settings,
            policy=POLICY,
            champion=CHAMPION,
            rule_state={},
            tasks=TaskSource(),
            calibration=Calibration(),
        )
        if not data.experience or not data.prompts:
            raise RuntimeError("nothing was loaded")

    def report(self) -> None:
        with self.database.read() as session:
            limit, trust = self.settings.history, self.settings.trust
            read(session, POLICY, at=time.time(), limit=limit, trust=trust)

    def lineage(self) -> None:
        with Lease(self.client, f"update:{POLICY}", 30, database=self.database) as lease:
            attempts = Attempts(self.database, lease, POLICY)
            begun = attempts.begin(CHAMPION, self.settings)
            assert isinstance(begun, Attempt)
            attempts.mark_registered(
                begun, CHAMPION + 1, [f"tenant-0/fb-new-{n}" for n in range(2000)]
            )

    def unmatched(self) -> None:
        with self.database.read() as session:
            reasons(session, time.time())

    def prompts(self) -> None:
        with self.database.read() as session:
            experience.prompts(session, "support", 2048)

    def retain(self) -> None:
        with self.database.write() as session:
            if not expire(session, START + YEAR / 2):
                raise RuntimeError("nothing was old enough")

    def erase(self, tenant: str, user: str) -> None:
        with self.database.write() as session:
            if not erase_user(session, tenant, user, START + 2 * YEAR).interactions:
                raise RuntimeError(f"{tenant}/{user} has nothing to erase")


def fresh_events(database: Database, number: int) -> list[Event]:
    """Events of one batch: new interactions, half of the judgements on them and half on old ones."""
    with database.read() as session:
        query = select(InteractionRow.id, InteractionRow.tenant).where(
            InteractionRow.time > START + YEAR * (0.6 + 0.03 * number)
        )
        old = session.execute(query.order_by(InteractionRow.time).limit(JUDGED // 2)).all()
    run, now = uuid.uuid4().hex, datetime.fromtimestamp(START + YEAR + number, UTC)
    asked = [
        InteractionEvent(
            id=f"chatcmpl-{run}-{n:05}",
            time=now,
            tenant=f"tenant-{n % 4}",
            user=f"user-{n % 300}",
            session_id=f"session-{run}-{n // 8}" if n % 5 < 2 else None,
            policy=POLICY,
            version=CHAMPION,
            messages=[{"role": "user", "content": " ".join(["word"] * 24)}],
            prompt_ids=list(range(32)),
            completions=[
                Completion(
                    index=0,
                    token_ids=list(range(24)),
                    logprobs=[-1.0 / (t + 3) for t in range(24)],
                    processed_logprobs=[-1.0 / (t + 3) for t in range(24)],
                    text=" ".join(["word"] * 16),
                    finish_reason="stop",
                )
            ],
        )
        for n in range(EVENTS - JUDGED)
    ]
    answers = [*((e.id, e.tenant) for e in asked[: JUDGED - len(old)]), *map(tuple, old)]
    judged = [
        FeedbackEvent(
            id=f"fb-{run}-{n:05}",
            time=now,
            tenant=tenant,
            user=f"rater-{n % 50}",
            interaction_id=id,
            name="thumbs",
            value="up" if n % 3 else "down",
        )
        for n, (id, tenant) in enumerate(answers)
    ]
    return [*asked, *judged]


def migrations(database: Database) -> dict[str, Any]:
    """Seconds down to the first version of the schema and up again; nothing else may change."""

    def rows() -> dict[str, int]:
        with database.engine.connect() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in (*TABLES, "unmatched")
            }

    before, began = rows(), time.perf_counter()
    with database.engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0001")
    down = time.perf_counter()
    database.migrate()
    up = time.perf_counter()
    after = rows()
    return {
        "down_to_the_first_s": round(down - began, 1),
        "up_to_the_newest_s": round(up - down, 1),
        "rows_that_differ": {t: [before[t], after[t]] for t in before if before[t] != after[t]},
    }


def measure(
    postgres: Postgres, size: Size, redis_url: str, scratch: Path, part: str
) -> dict[str, Any]:
    """The figures of one part, `all` for every one. The tables are filled where they are empty."""
    figures: dict[str, Any] = {}
    with running(postgres, LOADING) as database:
        database.migrate()
        with database.read() as session:
            empty = session.execute(select(InteractionRow.id).limit(1)).first() is None
        if empty:
            began = time.perf_counter()
            filled.fill(database, size)
            figures["fill_s"] = round(time.perf_counter() - began, 1)
            with database.read() as session:
                wrong = filled.disagreements(session)
                session.rollback()
            if wrong:
                raise RuntimeError(f"{wrong} rows are not what the intake would have written")
    with running(postgres, SERVING) as database:
        with database.read() as session:
            used = session.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        figures["gigabytes"] = round(used / 1e9, 2)
        if part in ("all", "paths"):
            figures |= Paths(database, redis_url, scratch).measure()
        if part in ("all", "migrations"):
            figures["migrations"] = migrations(database)
    return figures


def goals(figures: dict[str, Any]) -> list[MustShow]:
    if "paths" not in figures:
        return []
    paths, scans = figures["paths"], figures["whole_tables_read"]

    def seconds(line: str, path: str, most: float) -> MustShow:
        value = paths[path]["longest_s"]
        return MustShow(line, value, f"<= {most:g} s, the longest round", value <= most)

    return [
        seconds("intake of 1,000 events", "intake_of_1000_events", 1.0),
        seconds("an update's load", "update_load", 3.0),
        seconds("erasure of the busiest user", "erasure_of_the_busiest_user", 10.0),
        MustShow("statements that read a large table whole", len(scans), "0", not scans),
    ]


def main(
    interactions: Annotated[int, typer.Option(min=1000)] = 10_000_000,
    judgements: Annotated[int, typer.Option(min=100)] = 3_000_000,
    part: Annotated[str, typer.Option(help="all, fill, paths or migrations.")] = "all",
    folder: Annotated[
        Path | None, typer.Option(help="Keep the cluster here, filled at the first run.")
    ] = None,
    out: Annotated[Path, typer.Option(help="database.json goes here.")] = FOLDER,
) -> None:
    """Exit code 1 when a goal is missed. Of the full size it takes some 20 GB of disk."""
    if part not in ("all", "fill", "paths", "migrations"):
        raise typer.BadParameter(f"{part} is none of all, fill, paths, migrations")
    binaries = installed()
    if binaries is None:
        raise typer.BadParameter("PostgreSQL is not installed (Debian: postgresql)")
    size = Size(interactions, judgements)
    made = tempfile.TemporaryDirectory(prefix="burnish-database-")
    with made as scratch, private_redis(Path(scratch)) as redis_url:
        home = folder.resolve() if folder else Path(tempfile.mkdtemp(dir=scratch))
        Path(scratch).chmod(0o755)  # the server runs as another user
        with kept_postgres(binaries, home) as postgres:
            figures = measure(postgres, size, redis_url, Path(scratch), part)
    figures = {"interactions": interactions, "judgements": judgements, **figures}
    figures = merged(earlier(out, figures), figures)
    shown = goals(figures)
    write_results("database", figures, out, must_show=shown)
    print_figures("the experience database", figures)
    for goal in shown:
        print(f"{goal.line}: {goal.value} ({goal.goal}: {'met' if goal.met else 'MISSED'})")
    if not all(goal.met for goal in shown):
        raise typer.Exit(1)


def earlier(out: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run found of parts that this one leaves out, on as many rows."""
    import json

    try:
        found = json.loads((out / "database.json").read_text())
    except FileNotFoundError:
        return {}
    same = all(found.get(name) == figures[name] for name in ("interactions", "judgements"))
    kept = ("fill_s", "gigabytes", "paths", "whole_tables_read", "migrations")
    return {name: found[name] for name in kept if name in found} if same else {}


if __name__ == "__main__":
    typer.run(main)
