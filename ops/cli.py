"""The command line `burnish`: `up`, and the commands that act on a running service.

Commands here only parse flags and report errors; each imports the module that does its work when
called, so that `burnish --help` loads neither torch nor MLflow. An error that the user can correct
is one line on stderr, with exit code 2 for a setting and 1 otherwise.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from burnish.feedback.masking import mask_logs, masked
from burnish.ops import settings as config
from burnish.ops.commands import alarms, exchange, keys, quarantine, research, tasks, versions
from burnish.ops.commands.client import ServiceClient, ServiceError
from burnish.ops.commands.mcp import mcp
from burnish.ops.settings import SettingsError, UpSettings
from burnish.ops.supervisor import run_state
from rich.console import Console

console = Console()
app = typer.Typer(
    help="A chat service that gets better with use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys", no_args_is_help=True)
app.add_typer(tasks.app, name="tasks", no_args_is_help=True)
app.add_typer(alarms.app, name="alarms")
app.add_typer(quarantine.app, name="quarantine", no_args_is_help=True)
deadletters_app = typer.Typer(help="Events that the learner could not read.")
app.add_typer(deadletters_app, name="deadletters", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option(help="Data folder (BURNISH_DATA_DIR, .burnish).")]
Url = Annotated[str | None, typer.Option(help="The service to talk to (BURNISH_URL).")]
MlflowDatabase = Annotated[
    str | None, typer.Option(help="Of an MLflow server: its database's URL.")
]
MlflowArtifacts = Annotated[
    Path | None, typer.Option(help="Of an MLflow server: the folder of its artifacts.")
]
Why = Annotated[str, typer.Option(help="The reason, for the audit log.")]
Policy = Annotated[str, typer.Option(help="Which policy.")]
PolicyArgument = Annotated[str, typer.Argument(help="Which policy.")]


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of API and page (8080).")] = None,
    data_dir: DataDir = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Hugging Face folder, GGUF file, or smollm2 (shipped ember)."),
    ] = None,
    redis_url: Annotated[str | None, typer.Option(help="Redis or Valkey (embedded).")] = None,
    kafka_bootstrap: Annotated[str | None, typer.Option(help="Kafka brokers (Redis).")] = None,
    database_url: Annotated[str | None, typer.Option(help="Experience database (SQLite).")] = None,
    mlflow_uri: Annotated[str | None, typer.Option(help="MLflow registry (SQLite).")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of MLflow's page.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16, int8 or int4 (auto: lossless).")
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(help="auto or int8 (auto: the model's own type).")
    ] = None,
    update_every: Annotated[float | None, typer.Option(help="Seconds between updates.")] = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="Run a Kafka node of our own.")] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Run Prometheus, where it is installed.")
    ] = False,
) -> None:
    """Start everything in the foreground; Ctrl-C stops it."""
    from burnish.ops.supervisor import up as supervisor

    flags = {name: value for name, value in locals().items() if name in UpSettings.model_fields}
    settings = config.load(flags)
    raise typer.Exit(supervisor.run(settings, kafka=kafka, observe=observe, console=console))


@app.command()
def chat(
    model: Annotated[
        str, typer.Option(help="Policy, or a pinned version: default@12.")
    ] = "default",
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Whose votes they are; your login name, if not given.")
    ] = None,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Talk in the terminal; /up and /down judge the last answer."""
    from burnish.ops.commands import chat as terminal

    settings = config.load({"data_dir": data_dir, "url": url})
    talk = terminal.Conversation(settings, model, system, user or terminal.login_name())
    raise typer.Exit(terminal.run(talk, console=console))


@app.command()
def status(
    data_dir: DataDir = None,
    url: Url = None,
    ticks: Annotated[int, typer.Option(help="How many of the learner's ticks to show.")] = 10,
) -> None:
    """Processes, versions, and what the learner did last or why nothing trained."""
    from burnish.ops.commands import status as report

    settings = config.load({"data_dir": data_dir, "url": url})
    raise typer.Exit(report.run(settings, console=console, ticks=ticks))


@app.command()
def report(
    policy: Policy = "default",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, on standard output.")] = False,
    plots: Annotated[Path | None, typer.Option(help="Write PNGs into this folder.")] = None,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Is it learning? What votes say of each version, and what would help most."""
    from burnish.ops.commands import report as work

    settings = config.load({"data_dir": data_dir, "url": url})
    work.run(settings, policy, console, as_json=as_json, plots=plots)


@app.command()
def gate(
    version: Annotated[
        str | None, typer.Argument(help="A version: 12 or default@12 (default: the newest).")
    ] = None,
    policy: Policy = "default",
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """What the gate said of a version: whether it passed, and why not; exit code 1 where it did not."""
    from burnish.ops.commands import gate as work

    settings = config.load({"data_dir": data_dir, "url": url})
    raise typer.Exit(work.run(settings, version, policy, console))


@app.command()
def repair(
    data_dir: DataDir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; only say what is damaged.")
    ] = False,
) -> None:
    """Check every store of a stopped service and save what can be read of a damaged one."""
    from burnish.ops.commands import repair as work

    settings = config.load({"data_dir": data_dir})
    raise typer.Exit(work.run(settings, dry_run=dry_run, console=console))


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    mlflow_database: MlflowDatabase = None,
    mlflow_artifacts: MlflowArtifacts = None,
    data_dir: DataDir = None,
) -> None:
    """Copy everything that the service has acknowledged; it may go on meanwhile."""
    from burnish.ops.backup import make

    make.run(
        config.load({"data_dir": data_dir}),
        folder.resolve(),
        console,
        mlflow_database=mlflow_database,
        mlflow_artifacts=mlflow_artifacts,
    )


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `burnish backup` wrote.")],
    mlflow_database: MlflowDatabase = None,
    mlflow_artifacts: MlflowArtifacts = None,
    data_dir: DataDir = None,
) -> None:
    """Put a backup back where nothing is: an empty data folder, empty databases."""
    from burnish.ops.backup import restore as work

    work.run(
        config.load({"data_dir": data_dir}),
        folder.resolve(),
        console,
        mlflow_database=mlflow_database,
        mlflow_artifacts=mlflow_artifacts,
    )


@app.command()
def erase(
    user: Annotated[str, typer.Option(help="The end user, as `user` named them.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, where and how much.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is done.")] = False,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for the stores; the weights take an update.")
    ] = 60.0,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Erase an end user of the key's tenant from every store, and, by a rebuild, from the weights."""
    from burnish.ops.commands import erase as work

    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}), timeout=60.0)
    found = work.count(service, user, console)
    if dry_run or (found and not yes and not typer.confirm("Erase all of this for good?")):
        return
    work.run(service, user, console, wait)


@app.command()
def audit(
    limit: Annotated[int, typer.Option(min=1, help="How many of the newest entries.")] = 50,
    check: Annotated[
        bool, typer.Option("--check", help="Whether any was removed or changed, and where.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Who promoted, rolled back, erased, changed keys or settings, and why."""
    from burnish.feedback.audit import AuditLog
    from burnish.ops.commands import audit as work

    log = AuditLog(config.load({"data_dir": data_dir}).data_dir)
    work.check(log, console) if check else work.show(log, limit, console)


@app.command()
def update(policy: Policy = "default", data_dir: DataDir = None, url: Url = None) -> None:
    """Ask the learner for an update tick now."""
    service = ServiceClient(config.load({"data_dir": data_dir, "url": url}))
    service.post("/v1/learner/update", {"policy": policy})
    console.print("asked the learner for an update; `burnish status` will say what it did")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="A version: 12 or default@12.")],
    policy: Policy = "default",
    why: Why = "",
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Make a version the champion."""
    policy, number = versions.parse(version, policy)
    told = versions.move(config.load({"data_dir": data_dir, "url": url}), policy, number, why)
    console.print(f"{policy}: {policy}@{number} is champion now", highlight=False)
    for alarm in told.get("alarms", ()):
        console.print(f"an alarm is open: {alarm}", highlight=False, markup=False)


@app.command()
def rollback(
    policy: Policy = "default", why: Why = "", data_dir: DataDir = None, url: Url = None
) -> None:
    """Put the previous champion back."""
    versions.move(config.load({"data_dir": data_dir, "url": url}), policy, None, why)
    console.print(f"{policy}: the version before is champion now", highlight=False)


@app.command()
def pause(
    policy: PolicyArgument = "default",
    why: Why = "",
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let no update promote anything until `resume`; updates go on, and people may promote."""
    versions.pause(config.load({"data_dir": data_dir, "url": url}), policy, why)
    console.print(f"{policy}: no update promotes anything from now on", highlight=False)


@app.command()
def resume(
    policy: PolicyArgument = "default",
    why: Why = "",
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Let updates promote again."""
    resumed = versions.resume(config.load({"data_dir": data_dir, "url": url}), policy, why)
    said = "updates promote again" if resumed else "was not paused"
    console.print(f"{policy}: {said}", highlight=False)


@app.command()
def sign(
    version: Annotated[str, typer.Argument(help="A version: 12 or default@12.")],
    policy: Policy = "default",
    data_dir: DataDir = None,
) -> None:
    """Vouch for a version that you brought: only what is signed is ever served.

    It is an adapter in peft's format (adapter_config.json, adapter_model.safetensors) for this base
    model, registered in MLflow as a version of the policy.
    """
    policy, number = versions.parse(version, policy)
    sha256 = versions.sign(config.load({"data_dir": data_dir}), policy, number)
    console.print(f"{policy}@{number} is signed (sha256 {sha256})", highlight=False)


@app.command()
def kafka(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9092,
    brokers: Annotated[
        int,
        typer.Option(min=1, help="1, or 3 and more: a cluster on ports that follow each other."),
    ] = 1,
    data_dir: DataDir = None,
) -> None:
    """Fetch Apache Kafka and run one node, or a cluster, in the foreground."""
    from burnish.ops.kafka.cluster import run_kafka

    settings = config.load({"data_dir": data_dir})
    run_kafka(settings.data_dir.resolve() / "kafka", port, brokers)


app.command()(mcp)
app.command("import")(exchange.import_)
app.command()(exchange.export)
app.command()(research.simulate)
app.command()(research.pretrain)
app.command()(research.train_compactor)
app.command()(research.verify)
app.command()(research.kernels)


@deadletters_app.command("list")
def deadletters_list(
    reasons: Annotated[int, typer.Option(min=1, help="Reasons to show per topic.")] = 3,
    data_dir: DataDir = None,
) -> None:
    """Dead letters per topic, and why they were set aside."""
    from burnish.ops.commands import deadletters

    deadletters.list_letters(config.load({"data_dir": data_dir}), console, reasons)


@deadletters_app.command("replay")
def deadletters_replay(data_dir: DataDir = None) -> None:
    """Put all dead letters back, for the learner to read again."""
    from burnish.ops.commands import deadletters

    deadletters.replay(config.load({"data_dir": data_dir}), console)


def main() -> None:
    """Console script: reports errors that the user can correct in one line."""
    mask_logs()
    try:
        app()
    except (SettingsError, run_state.FolderInUse) as error:
        print(masked(f"burnish: {error}"), file=sys.stderr)
        sys.exit(2)
    except ServiceError as error:
        print(masked(f"burnish: {error}"), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
