"""`burnish up`: starts every service in the foreground, watches them, stops them in order.

Order of starting: Redis (and Kafka), the registry's database, serving, and only when it answers
the learner's worker and beat and MLflow's page, so that the first token does not wait for them.
Order of stopping: serving first (it drains), then beat and worker, MLflow, Kafka, Redis last.
A child that dies is started again with back-off; a setting a child refuses ends everything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from burnish.ops import settings as config
from burnish.ops.settings import SettingsError, UpSettings
from burnish.ops.supervisor import prepare, runfile, services
from burnish.ops.supervisor.children import Child, Guard, Spec
from burnish.ops.supervisor.logtail import LogTail
from burnish.ops.supervisor.runfile import RunFile
from burnish.ops.supervisor.services import Plan
from rich.console import Console

TICK = 0.2
# What others lean on goes last; those on one line go together.
STOP_ORDER = (("serving",), ("beat", "worker", "mlflow"), ("kafka",), ("redis",))
SETTINGS_EXIT = 2


class ChildFailed(RuntimeError):
    """A child ended, or never answered, before the service was up."""


class Supervisor:
    def __init__(self, plan: Plan, specs: Sequence[Spec], console: Console, lock_fd: int):
        self.plan = plan
        self.console = console
        self._guard = Guard(lock_fd)
        logs = plan.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        self.children = [Child(spec, logs, self._guard) for spec in specs]
        self._tail = LogTail({child.name: child.log_path for child in self.children})
        self._stop = threading.Event()
        self._started_at = time.time()
        self._signals = 0

    # --- signals -------------------------------------------------------------------------------

    def listen(self) -> None:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._signals += 1
        self._stop.set()

    # --- the three acts ------------------------------------------------------------------------

    def start(self) -> None:
        """Start children one after the other, each when those before it answer."""
        for child in self.children:
            if self._stop.is_set():
                return
            if child.name == "serving":
                self._prepare_databases()
            child.start()
            self._write_run_file()
            # MLflow's page takes its time; nobody waits for it.
            if child.name != "mlflow":
                self._wait_ready(child)
            if child.name == "serving":
                self._say_where_to_look()

    def watch(self) -> None:
        """Until a signal: restart the dead, repeat their warnings."""
        while not self._stop.wait(TICK):
            changed = False
            for child in self.children:
                if child.died():
                    self._say_died(child)
                if child.due():
                    child.start()
                    child.restarts += 1
                    changed = True
            if changed:
                self._write_run_file()
            self._repeat_warnings()

    def stop(self) -> None:
        self.console.print("[dim]stopping (Ctrl-C again: at once)[/dim]")
        before = self._signals
        for names in STOP_ORDER:
            together = [child for child in self.children if child.name in names]
            for child in together:
                child.ask_to_stop()
            for child in together:
                child.stop(hurry=lambda: self._signals > before)
        self._guard.close()
        (self.plan.data_dir / runfile.NAME).unlink(missing_ok=True)

    # --- details -------------------------------------------------------------------------------

    def _prepare_databases(self) -> None:
        """In a process of its own: MLflow is heavy to import, and nothing else here needs it."""
        if prepare.is_done(self.plan.data_dir, self.plan.env):
            return
        log = self.plan.data_dir / "logs" / "prepare.log"
        with log.open("ab") as out:
            done = subprocess.run(
                [sys.executable, "-m", "burnish.ops.supervisor.prepare"],
                env={**os.environ, **self.plan.env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        if done.returncode != 0 and not self._stop.is_set():
            last = log.read_text(errors="replace").rstrip().rpartition("\n")[2]
            raise ChildFailed(f"the databases could not be prepared ({last}); see {log}")

    def _wait_ready(self, child: Child) -> None:
        ready = child.spec.ready
        if ready is None:
            return
        deadline = time.monotonic() + child.spec.patience
        while not self._stop.is_set():
            if child.died():
                raise _failure(child)
            if ready():
                return
            if time.monotonic() > deadline:
                raise ChildFailed(
                    f"{child.name} did not answer within {child.spec.patience:.0f} s; "
                    f"see {child.log_path}"
                )
            self._stop.wait(0.05)

    def _say_died(self, child: Child) -> None:
        code = child.exit_code or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        wait = child.backoff()
        when = f"in {wait:.0f} s" if wait >= 1 else "now"
        self.console.print(
            f"[yellow]{child.name} ended ({how}); starting it again {when}[/yellow] "
            f"[dim]{child.log_path}[/dim]"
        )

    def _repeat_warnings(self) -> None:
        for name, line in self._tail.loud_lines():
            self.console.print(f"[dim]{name}:[/dim] ", end="")
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _write_run_file(self) -> None:
        RunFile(
            pid=os.getpid(),
            url=self.plan.url,
            redis_port=self.plan.redis_port,
            mlflow_url=self.plan.mlflow_url,
            kafka=self.plan.env.get("BURNISH_KAFKA_BOOTSTRAP"),
            started_at=self._started_at,
            children={child.name: child.pid for child in self.children if child.pid},
        ).write(self.plan.data_dir)

    def _say_where_to_look(self) -> None:
        plan = self.plan
        say = self.console.print
        say(f"\n[bold]Burnish is up.[/bold]  Chat and thumbs: [link]{plan.url}/[/link]")
        say(f"  OpenAI API   {plan.url}/v1", highlight=False)
        say(f"  versions     {plan.mlflow_url}  (MLflow)", highlight=False)
        say(f"  data, logs   {plan.data_dir}", highlight=False, soft_wrap=True)
        say("  in another terminal: [bold]burnish chat[/bold], [bold]burnish status[/bold], or")
        body = '{"model":"default","messages":[{"role":"user","content":"What is 12 + 30?"}]}'
        say(
            f"  curl {plan.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
            highlight=False,
            soft_wrap=True,
        )
        say("[dim]Ctrl-C stops everything; the next start goes on from here.[/dim]\n")


def _failure(child: Child) -> Exception:
    """A child that exits with 2 has refused a setting and said why on its last line."""
    if child.exit_code == SETTINGS_EXIT:
        words = child.last_words().removeprefix("burnish: ")
        return SettingsError(words or f"{child.name} refused its settings")
    words = child.last_words(5)
    return ChildFailed(f"{child.name} ended before it was ready; see {child.log_path}\n{words}")


def check(settings: UpSettings, plan: Plan) -> None:
    """Everything that can be refused before a process is started."""
    from burnish.serving.api.auth import KeyStore, is_loopback

    config.check_rooms(plan.env)
    config.refuse_taken_port(settings.host, settings.port)
    if settings.mlflow_port is not None:
        config.refuse_taken_port("127.0.0.1", settings.mlflow_port, "BURNISH_MLFLOW_PORT")
    if not is_loopback(settings.host) and not KeyStore(plan.data_dir / "keys.sqlite"):
        raise SettingsError(
            f"BURNISH_HOST: {settings.host} is reachable from outside and no API key exists; "
            "make one first: burnish keys add NAME"
        )
    config.refuse_bad_model(settings.model_path)


def run(settings: UpSettings, *, kafka: bool = False, console: Console | None = None) -> int:
    """Blocks until stopped; returns the exit code. Raises SettingsError and FolderInUse."""
    console = console or Console()
    lock_fd = runfile.lock(settings.data_dir.resolve())
    plan = services.make_plan(settings, kafka=kafka)
    check(settings, plan)
    supervisor = Supervisor(plan, services.specs(plan), console, lock_fd)
    supervisor.listen()
    console.print("[dim]starting...[/dim]")
    try:
        supervisor.start()
        supervisor.watch()
    except ChildFailed as error:
        print(f"burnish: {error}", file=sys.stderr)
        return 1
    finally:
        supervisor.stop()
        os.close(lock_fd)
    return 0
