"""The command line `burnish`: `up`, and the commands that act on a running service.

Commands only parse flags and report errors; each imports the module that does its work when
called, so that `burnish --help` loads neither torch nor MLflow. An error that the user can correct
is one line on stderr; the exit codes are those of commands/output.py.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer
from burnish.feedback.masking import mask_logs, masked
from burnish.ops import settings as config
from burnish.ops.commands import (
    alarms,
    canary,
    exchange,
    keys,
    learning,
    quarantine,
    research,
    stores,
    tasks,
)
from burnish.ops.commands.client import ServiceDown, ServiceError
from burnish.ops.commands.completion import completion
from burnish.ops.commands.mcp import mcp
from burnish.ops.commands.output import (
    FAILED,
    INTERRUPTED,
    NO_SERVICE,
    WRONG_USE,
    AsJson,
    DataDir,
    Url,
    print_json,
    told_to,
)
from burnish.ops.settings import SettingsError, UpSettings
from burnish.ops.supervisor import run_state
from rich.console import Console

EPILOG = (
    "Exit codes: 0 done; 1 refused, failed, or a check found something; 2 a flag or a setting is wrong;"
    " 3 no service answers; 130 interrupted."
)

MlflowDatabase = Annotated[
    str | None, typer.Option(help="Of an MLflow server: its database's URL.")
]
MlflowArtifacts = Annotated[
    Path | None, typer.Option(help="Of an MLflow server: the folder of its artifacts.")
]

console = Console()
app = typer.Typer(
    help="A chat service that gets better with use.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys", no_args_is_help=True)
app.add_typer(tasks.app, name="tasks", no_args_is_help=True)
app.add_typer(canary.app, name="canary", no_args_is_help=True)
app.add_typer(alarms.app, name="alarms")
app.add_typer(quarantine.app, name="quarantine", no_args_is_help=True)
app.add_typer(stores.deadletters_app, name="deadletters", no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"burnish {installed('burnish')}")
        raise typer.Exit


@app.callback()
def burnish(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    pass


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
def doctor(
    as_json: AsJson = False,
    data_dir: DataDir = None,
    model: Annotated[Path | None, typer.Option(help="A model to look for (BURNISH_MODEL).")] = None,
    port: Annotated[int | None, typer.Option(help="A port to try (BURNISH_PORT).")] = None,
) -> None:
    """What this machine lacks, what for, and how to get it; exit code 1 where `up` cannot start."""
    from burnish.ops.commands import doctor as work

    settings = config.load({"data_dir": data_dir, "model": model, "port": port})
    raise typer.Exit(work.run(settings, console, as_json=as_json))


@app.command()
def chat(
    model: Annotated[
        str, typer.Option(help="Policy, or a pinned version: default@12.")
    ] = "default",
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    user: Annotated[
        str | None, typer.Option(help="Whose votes they are; your login name, if not given.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object for each turn and command, one a line.")
    ] = False,
    data_dir: DataDir = None,
    url: Url = None,
) -> None:
    """Talk in the terminal; /up and /down judge the last answer, /why tells what became of it."""
    from burnish.ops.commands import chat as terminal
    from burnish.ops.commands.conversation import Conversation

    settings = config.load({"data_dir": data_dir, "url": url})
    talk = Conversation(settings, model, system, user or terminal.login_name())
    raise typer.Exit(terminal.run(talk, console=console, as_json=as_json))


@app.command()
def status(
    data_dir: DataDir = None,
    url: Url = None,
    ticks: Annotated[
        int, typer.Option(min=1, max=200, help="How many of the learner's ticks to show.")
    ] = 10,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again and again.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between, with --watch.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Processes, versions, and what the learner did last or why nothing trained."""
    from burnish.ops.commands import status as work

    settings = config.load({"data_dir": data_dir, "url": url})
    if watch:
        work.watch(settings, console=console, ticks=ticks, every_s=every, as_json=as_json)
    raise typer.Exit(work.run(settings, console=console, ticks=ticks, as_json=as_json))


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    mlflow_database: MlflowDatabase = None,
    mlflow_artifacts: MlflowArtifacts = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Copy everything that the service has acknowledged; it may go on meanwhile."""
    from burnish.ops.backup import make

    holds = make.run(
        config.load({"data_dir": data_dir}),
        folder.resolve(),
        told_to(console, as_json),
        mlflow_database=mlflow_database,
        mlflow_artifacts=mlflow_artifacts,
    )
    if as_json:
        print_json({"folder": folder.resolve(), "holds": holds})


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `burnish backup` wrote.")],
    mlflow_database: MlflowDatabase = None,
    mlflow_artifacts: MlflowArtifacts = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Put a backup back where nothing is: an empty data folder, empty databases."""
    from burnish.ops.backup import restore as work

    holds = work.run(
        config.load({"data_dir": data_dir}),
        folder.resolve(),
        told_to(console, as_json),
        mlflow_database=mlflow_database,
        mlflow_artifacts=mlflow_artifacts,
    )
    if as_json:
        print_json({"folder": folder.resolve(), "holds": holds})


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


for command in (
    learning.report,
    learning.gate,
    learning.update,
    learning.promote,
    learning.rollback,
    learning.pause,
    learning.resume,
    learning.sign,
    stores.repair,
    stores.erase,
    stores.audit,
    mcp,
    exchange.export,
    research.simulate,
    research.pretrain,
    research.train_compactor,
    research.verify,
    research.kernels,
    completion,
):
    app.command()(command)
app.command("import")(exchange.import_)


def main() -> None:
    """Console script: reports errors that the user can correct in one line."""
    mask_logs()
    try:
        app(prog_name="burnish")
    except (SettingsError, run_state.FolderInUse) as error:
        _fail(error, WRONG_USE)
    except ServiceDown as error:
        _fail(error, NO_SERVICE)
    except ServiceError as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _fail(error: Exception, code: int) -> None:
    print(masked(f"burnish: {error}"), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
