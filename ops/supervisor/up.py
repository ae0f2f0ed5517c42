"""`burnish up`: starts every service in the foreground, supervises them, stops them in order.

Starting order: Redis (and Kafka), the databases, serving, and once that is ready the learner's
three workers and beat and MLflow's page, so that the first token does not wait for them. Stopping order:
serving first (it drains), then beat, workers and MLflow, Kafka, Redis last. A child that exits is
restarted with back-off; one that refuses its settings stops the whole service. A full disk stops
nothing: what cannot be written is tried again, and children that ended of it start once space is back.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from burnish.feedback.audit import AuditLog
from burnish.feedback.masking import masked
from burnish.ops import passwords
from burnish.ops import settings as config
from burnish.ops.settings import SettingsError, UpSettings
from burnish.ops.supervisor import damage, prepare, privacy, run_state, services
from burnish.ops.supervisor.child_process import ChildProcess, Reaper, ServiceSpec, rotate
from burnish.ops.supervisor.log_tail import LogTail
from burnish.ops.supervisor.noting import note_settings
from burnish.ops.supervisor.run_state import RunState
from burnish.ops.supervisor.services import LaunchPlan
from burnish.ops.supervisor.space import POLL_S, SpaceWatch, await_space, disk_of
from rich.console import Console

# Dependencies are stopped last; each tuple is stopped concurrently.
STOP_ORDER = (
    ("serving",),
    ("beat", "intake", "reward", "worker", "mlflow", "prometheus"),
    ("kafka",),
    ("redis",),
)
SETTINGS_EXIT_CODE = 2


class ChildFailed(RuntimeError):
    """A child exited or timed out before the service was up."""


class Supervisor:
    """The child processes of one `burnish up`, from the first start to the last exit."""

    def __init__(
        self, plan: LaunchPlan, specs: Sequence[ServiceSpec], console: Console, lock_fd: int
    ):
        self.plan = plan
        self.console = console
        self._reaper = Reaper(lock_fd)
        logs = plan.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        self.children = [ChildProcess(spec, logs, self._reaper) for spec in specs]
        self._tail = LogTail({child.name: child.log_path for child in self.children})
        self._stop = threading.Event()
        self._started_at = time.time()
        self._signals = 0
        self._space = SpaceWatch(disk_of(plan.settings))
        self._unwritten = False  # run.json is older than the children

    # --- signals -------------------------------------------------------------------------------

    def listen(self) -> None:
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self._signals += 1
        self._stop.set()

    # --- life cycle -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the children in order, each once the one before it is ready."""
        for child in self.children:
            while not self._started(child):
                await_space(self._space.disk, self._print, self._stop.wait)
            if self._stop.is_set():
                return
            if child.name == "serving":
                self._print_addresses()

    def _started(self, child: ChildProcess) -> bool:
        """Start one child and wait for it; False where it failed on a full disk."""
        try:
            if child.name == "serving" and not self._stop.is_set():
                self._prepare_databases()
            if not self._stop.is_set():
                child.start()
                self._write_run_state()
            # Nothing depends on these, and MLflow's page starts slowly.
            if child.name not in ("mlflow", "prometheus"):
                self._wait_ready(child)
        except (ChildFailed, SettingsError, OSError):
            if not self._space.disk.is_full():
                raise
            child.stop()
            return False
        return True

    def watch(self) -> None:
        """Until a signal: restart children that exited, print new warnings of their logs."""
        while not self._stop.wait(POLL_S):
            self._watch_space()
            changed = self._unwritten
            for child in self.children:
                if child.exited():
                    self._note_exit(child)
                if child.restart_due():
                    changed |= self._restart(child)
                self._keep_standby(child)
                rotate(child.log_path)
            if changed:
                self._write_run_state()
            self._print_warnings()

    def _watch_space(self) -> None:
        """Say when the disk is full; when it no longer is, start at once what ended of it."""
        match self._space.change():
            case "full":
                self._print(f"[yellow]{self._space.disk}[/yellow]")
            case "back":
                self._print(f"there is space again on the disk of {self.plan.data_dir}")
                for child in self.children:
                    child.restart_now()

    def _keep_standby(self, child: ChildProcess) -> None:
        try:
            child.keep_standby()
        except OSError as error:  # it goes without
            self._print(f"[yellow]{child.name} has no standby: {error}[/yellow]")

    def _restart(self, child: ChildProcess) -> bool:
        try:
            child.start()
        except OSError as error:  # no space for a log, no memory for a process
            child.failed_to_start()
            self._print(f"[yellow]{child.name} cannot be started: {error}[/yellow]")
            return False
        child.restarts += 1
        return True

    def stop(self) -> None:
        self._print("[dim]stopping (Ctrl-C again: at once)[/dim]")
        before = self._signals
        for names in STOP_ORDER:
            group = [child for child in self.children if child.name in names]
            for child in group:
                child.request_stop()
            for child in group:
                child.stop(force=lambda: self._signals > before)
        self._reaper.close()
        (self.plan.data_dir / run_state.FILE_NAME).unlink(missing_ok=True)

    # --- details -------------------------------------------------------------------------------

    def _prepare_databases(self) -> None:
        """In a process of its own, since MLflow is heavy to import and nothing else here needs it."""
        if prepare.is_prepared(self.plan.data_dir, self.plan.env):
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

    def _wait_ready(self, child: ChildProcess) -> None:
        ready = child.spec.ready
        if ready is None:
            return
        deadline = time.monotonic() + child.spec.ready_timeout_s
        while not self._stop.is_set():
            if child.exited():
                raise _failure(child)
            if ready():
                return
            if time.monotonic() > deadline:
                raise ChildFailed(
                    f"{child.name} did not answer within {child.spec.ready_timeout_s:.0f} s; "
                    f"see {child.log_path}"
                )
            self._stop.wait(0.05)

    def _note_exit(self, child: ChildProcess) -> None:
        """Say so; hold it where it ended of a damaged store, and would for ever."""
        code = child.exit_code or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if code > 0 and damage.SIGNS.search(child.log_lines(20)):
            child.hold()
            self._print(f"[red]{child.name} ended ({cause}) and is not started again[/red]")
            self._print_damage()
            return
        delay = child.backoff()
        when = f"in {delay:.0f} s" if delay >= 1 else "now"
        self._print(
            f"[yellow]{child.name} ended ({cause}); starting it again {when}[/yellow] "
            f"[dim]{child.log_path}[/dim]"
        )

    def _print_warnings(self) -> None:
        for name, line in self._tail.new_warnings():
            self._print(f"[dim]{name}:[/dim] ", end="")
            self._print(line, markup=False, highlight=False, soft_wrap=True)
            if damage.SIGNS.search(line):
                self._print_damage()

    def _print_damage(self) -> None:
        """Which store is damaged, as far as a quick check finds it, and the way out."""
        folder = self.plan.data_dir
        found = damage.damaged_stores(folder, self.plan.env) or [f"a store of {folder} is damaged"]
        for line in found:
            way_out = f"stop the service (Ctrl-C) and {damage.WAY_OUT}"
            self._print(f"{line}: {way_out}", markup=False, highlight=False, soft_wrap=True)

    def _write_run_state(self) -> None:
        state = RunState(
            pid=os.getpid(),
            url=self.plan.url,
            redis_port=self.plan.redis_port,
            mlflow_url=self.plan.mlflow_url,
            kafka=self.plan.env.get("BURNISH_KAFKA_BOOTSTRAP"),
            started_at=self._started_at,
            children={child.name: child.pid for child in self.children if child.pid},
        )
        try:
            state.write(self.plan.data_dir)
        except OSError as error:
            if not self._unwritten:
                self._print(f"[yellow]{run_state.FILE_NAME} cannot be written: {error}[/yellow]")
            self._unwritten = True
        else:
            self._unwritten = False

    def _print(self, *what: str, **how: Any) -> None:
        """Print, unless the console is a file on a full disk."""
        with contextlib.suppress(OSError):
            self.console.print(*what, **how)

    def _print_addresses(self) -> None:
        plan = self.plan
        write = self._print
        write(f"\n[bold]Burnish is up.[/bold]  Chat and thumbs: [link]{plan.url}/[/link]")
        write(f"  OpenAI API   {plan.url}/v1", highlight=False)
        write(
            f"  versions     {masked(plan.mlflow_url)}  (MLflow{_mlflow_user(plan)})",
            highlight=False,
            soft_wrap=True,
        )
        write(f"  data, logs   {plan.data_dir}", highlight=False, soft_wrap=True)
        if plan.prometheus_port is not None:
            write(f"  metrics      http://127.0.0.1:{plan.prometheus_port}  (Prometheus)")
        write("  in another terminal: [bold]burnish chat[/bold], [bold]burnish status[/bold], or")
        body = '{"model":"default","messages":[{"role":"user","content":"What is 12 + 30?"}]}'
        write(
            f"  curl {plan.url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
            highlight=False,
            soft_wrap=True,
        )
        write("[dim]Ctrl-C stops everything; the next start goes on from here.[/dim]\n")


def _mlflow_user(plan: LaunchPlan) -> str:
    """Who may enter MLflow's page of ours; an MLflow server elsewhere has users of its own."""
    if plan.mlflow_port is None:
        return ""
    where = passwords.mlflow_password_file(plan.data_dir)
    return f"; user {passwords.MLFLOW_USER}, password in {where}"


def _failure(child: ChildProcess) -> Exception:
    """SettingsError for a child that exited with 2: the last line of its log gives the reason."""
    if child.exit_code == SETTINGS_EXIT_CODE:
        reason = child.log_lines().removeprefix("burnish: ")
        return SettingsError(reason or f"{child.name} refused its settings")
    tail = child.log_lines(5)
    if damage.SIGNS.search(tail):
        [line] = [line for line in tail.splitlines() if damage.SIGNS.search(line)][-1:]
        return ChildFailed(f"{child.name}: {line.strip()} ({child.log_path}): {damage.WAY_OUT}")
    return ChildFailed(f"{child.name} ended before it was ready; see {child.log_path}\n{tail}")


def check(settings: UpSettings, plan: LaunchPlan) -> None:
    """Validate settings, ports, keys and model before any process is started."""
    from burnish.serving.api.auth import KeyStore, is_loopback

    config.check_rooms(plan.env)
    damage.refuse_damaged(plan.data_dir, plan.env)
    config.refuse_taken_port(settings.host, settings.port)
    if settings.mlflow_port is not None:
        config.refuse_taken_port("127.0.0.1", settings.mlflow_port, "BURNISH_MLFLOW_PORT")
    if not is_loopback(settings.host) and not KeyStore(
        plan.data_dir / "keys.sqlite", url=settings.keys_url
    ):
        raise SettingsError(
            f"BURNISH_HOST: {settings.host} is reachable from outside and no API key exists; "
            "make one first: burnish keys add NAME"
        )
    config.refuse_bad_model(settings.model_path)


def run(
    settings: UpSettings,
    *,
    kafka: bool = False,
    observe: bool = False,
    console: Console | None = None,
) -> int:
    """Blocks until stopped; returns the exit code. Raises SettingsError and FolderInUse."""
    console = console or Console()
    if (problem := privacy.close_to_others(settings.data_dir.resolve())) is not None:
        console.print(f"[yellow]BURNISH_DATA_DIR: {problem}[/yellow]", soft_wrap=True)
    lock_fd = run_state.lock(settings.data_dir.resolve())
    await_space(disk_of(settings), console.print, time.sleep)
    plan = services.plan_launch(settings, kafka=kafka, observe=observe)
    check(settings, plan)
    note_settings(AuditLog(settings.data_dir.resolve()), os.environ, getpass.getuser())
    supervisor = Supervisor(plan, services.service_specs(plan), console, lock_fd)
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
