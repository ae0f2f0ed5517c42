"""`burnish import` and `burnish export`: judged answers from other programs, and to training elsewhere.

An import publishes events to the stream, where the intake reads them like those of serving; it needs the
stream that the settings name, or a service that runs. An export reads the experience database.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceClient, ServiceError
from burnish.ops.commands.output import AsJson, DataDir, print_json
from burnish.ops.settings import SettingsError, UpSettings
from rich.console import Console

BATCH = 200  # events published at once
SHOWN = 20  # broken rows that are printed

console = Console()


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Exports of Open WebUI or Langfuse, or JSONL; all of one source at once."
        ),
    ],
    policy: Annotated[str, typer.Option(help="Which policy learns from them.")] = "default",
    tenant: Annotated[str, typer.Option(help="Whose they are.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is in them.")] = False,
    model: Annotated[Path | None, typer.Option(help="Whose tokens they become.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take in judged answers that another program has kept; exit code 1 where rows were passed over."""
    settings = config.load({"data_dir": data_dir, "model": model})
    turns, broken = _read(files)
    problems = [str(row) for row in broken]
    answers, judgements = 0, 0
    with _Publisher(settings, dry_run) as publish:
        for made in _events(settings, turns, policy, tenant, problems):
            publish(made)
            answers += 1
            judgements += len(made) - 1
    if as_json:
        print_json(
            {
                "answers": answers,
                "judgements": judgements,
                "passed_over": problems,
                "dry_run": dry_run,
            }
        )
        raise typer.Exit(1 if problems else 0)
    for problem in problems[:SHOWN]:
        _say(problem)
    if problems[SHOWN:]:
        _say(f"and {len(problems) - SHOWN} rows more")
    did = "would take in" if dry_run else "handed to the intake"
    passed = f"; {len(problems)} rows passed over" if problems else ""
    _say(f"{did} {answers} answers with {judgements} judgements{passed}")
    raise typer.Exit(1 if problems else 0)


def export(
    out: Annotated[Path, typer.Argument(help="A JSONL file, or - for standard output.")],
    shape: Annotated[str, typer.Option("--as", help="log, kto, dpo or sft.")] = "log",
    policy: Annotated[str, typer.Option(help="Which policy's.")] = "default",
    user: Annotated[
        str | None, typer.Option(help="Instead, all that is held on this end user.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose end user; with a key, the key's.")] = "local",
    data_dir: DataDir = None,
    url: Annotated[str | None, typer.Option(help="Address of the running service.")] = None,
) -> None:
    """Write the judged answers as rows to train on, one JSON object a line; or all about an end user, for which
    the service has to run."""
    from burnish.learner.exchange import export as exporting
    from burnish.learner.exchange.person import held_on

    if shape not in exporting.SHAPES:
        raise SettingsError(f"--as: {shape!r} is none of {', '.join(exporting.SHAPES)}")
    settings = config.load({"data_dir": data_dir, "url": url})
    database = _database(settings)
    try:
        if user is None:
            rows = exporting.rows(exporting.judged_answers(database, policy), shape)
        else:
            remembered = ServiceClient(settings).lines("/v1/memory/export", user=user)
            rows = itertools.chain(held_on(database, tenant, user), remembered)
        if str(out) == "-":
            _write(rows, sys.stdout)
            return
        with out.open("w", encoding="utf-8") as file:
            count = _write(rows, file)
    except OSError as error:
        raise ServiceError(f"{out} cannot be written: {error}") from error
    finally:
        database.close()
    _say(f"wrote {count} rows to {out}")


def _read(files: Sequence[Path]) -> Any:
    from burnish.learner.exchange.reading import read

    try:
        return read(files)
    except OSError as error:
        raise ServiceError(f"{error.filename} cannot be read: {error.strerror}") from error


def _events(
    settings: UpSettings, turns: Sequence[Any], policy: str, tenant: str, problems: list[str]
) -> Any:
    """The events of each turn; a turn that cannot become any is a problem."""
    from burnish.kernels.folder import ModelError, open_folder
    from burnish.learner.exchange.events import events_of
    from burnish.learner.exchange.turns import RowError

    try:
        model = open_folder(settings.model_path)
    except ModelError as error:
        raise SettingsError(f"BURNISH_MODEL: {error}") from error
    for turn in turns:
        try:
            yield list(events_of(turn, model, policy=policy, tenant=tenant))
        except RowError as error:
            problems.append(f"{turn.id}: {error}")


class _Publisher:
    """Publishes events in batches; on a dry run it does nothing."""

    def __init__(self, settings: UpSettings, dry_run: bool) -> None:
        from burnish.feedback.stream.opening import open_stream
        from burnish.ops.commands.deadletters import stream_settings

        self._stream = None if dry_run else open_stream(stream_settings(settings))
        self._waiting: list[Any] = []

    def __enter__(self) -> _Publisher:
        return self

    def __call__(self, events: Sequence[Any]) -> None:
        from burnish.feedback.events import encode

        self._waiting += map(encode, events)
        if len(self._waiting) >= BATCH:
            self._flush()

    def __exit__(self, failure: object, *_: object) -> None:
        try:
            if failure is None:
                self._flush()
        finally:
            if self._stream is not None:
                self._stream.close()

    def _flush(self) -> None:
        from burnish.feedback.errors import FeedbackError

        if self._stream is None or not self._waiting:
            return
        try:
            self._stream.ensure_topics()
            self._stream.publish(self._waiting)
        except FeedbackError as error:
            raise ServiceError(f"{error}; run the import again, what is in counts once") from error
        self._waiting = []


def _database(settings: UpSettings) -> Any:
    from burnish.learner.database import Database

    file = settings.data_dir.resolve() / "experience.db"
    if settings.database_url is None and not file.exists():
        raise ServiceError(f"there is no experience in {file.parent} yet; `burnish up` makes it")
    return Database(settings.database_url or f"sqlite:///{file}")


def _write(rows: Any, file: TextIO) -> int:
    count = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    return count


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
