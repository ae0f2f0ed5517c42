"""`burnish tasks`: what the learner rehearses and the gate asks: list it, check its files, try it out.

SOURCE is what BURNISH_TASKS takes: a JSONL file or folder, `general`, `ember`, `reasoning-gym`, or a name
in the entry-point group `burnish.tasks`. The default is the setting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks import CheckFailed, PackError, Task, TaskSource, open_source
from burnish.learner.tasks.jsonl import JsonlPack
from burnish.ops import settings as config
from burnish.ops.commands.output import AsJson, print_json
from burnish.ops.settings import EMBER, SettingsError, UpSettings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

COUNTED = 1000  # tasks of a generated family, beyond which it is called endless

app = typer.Typer(help="Verifiable tasks: what is rehearsed and asked at the gate.")
console = Console()

Sources = Annotated[list[str] | None, typer.Argument(help="Packs (BURNISH_TASKS).")]
Model = Annotated[Path | None, typer.Option(help="Hugging Face folder, GGUF file, or smollm2.")]


@app.command("list")
def list_(sources: Sources = None, model: Model = None, as_json: AsJson = False) -> None:
    """The families of the packs, and how many tasks each has to rehearse and for the gate."""
    source = _open(sources, config.load({"model": model}))
    listed = list(_families(source))
    if as_json:
        print_json({"families": listed, "notes": list(source.notes)})
        return
    table = Table("pack", "family", "levels", "to rehearse", "for the gate", box=None)
    for one in listed:
        counts = ("endless" if n is None else str(n) for n in (one["train"], one["heldout"]))
        levels = ", ".join(map(str, one["levels"]))
        table.add_row(one["pack"], one["family"], levels, *counts)
    console.print(table)
    _print_notes(source)


def _families(source: TaskSource) -> Iterator[dict[str, Any]]:
    """The families of each pack: their levels, and how many tasks of each split; None: endless."""
    for pack in source.packs:
        levels: dict[str, list[int]] = defaultdict(list)
        for family, level in pack.pools:
            levels[family].append(level)
        for family, known in levels.items():
            yield {
                "pack": pack.name,
                "family": family,
                "levels": sorted(known),
                "train": _count(pack.draw(Random(0), family, "train")),
                "heldout": _count(pack.draw(Random(0), family, "heldout")),
            }


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="JSONL files, or folders of them.")],
    as_json: AsJson = False,
) -> None:
    """Check packs line by line; exit code 1 where a line cannot be used."""
    bad, told = 0, []
    for file in (found for given in files for found in _jsonl_files(given)):
        try:
            pack = JsonlPack(file)
        except PackError as error:
            told.append({"file": str(file), "tasks": 0, "families": 0, "problems": [str(error)]})
            bad += 1
            continue
        good, families = len(pack.tasks), len({task.family for task in pack.tasks})
        problems = [str(problem) for problem in pack.problems]
        told.append({"file": str(file), "tasks": good, "families": families, "problems": problems})
        bad += bool(problems) or not good
    if as_json:
        print_json(told)
        raise typer.Exit(1 if bad else 0)
    for one in told:
        for problem in one["problems"]:
            _print(problem)
        if one["tasks"] or not one["problems"]:
            _print(
                f"{one['file']}: {one['tasks']} tasks in {one['families']} families,"
                f" {len(one['problems'])} bad lines"
            )
    raise typer.Exit(1 if bad else 0)


@app.command("try")
def try_(
    sources: Sources = None,
    model: Model = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Tasks of each family.")] = 4,
    show: Annotated[bool, typer.Option(help="Print prompts and answers.")] = True,
    seed: Annotated[int, typer.Option(help="Of the tasks and the answers.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Let a model answer some tasks, and show what the checkers say. Nothing of it is recorded."""
    settings = config.load({"model": model})
    source = _open(sources, settings)
    if family is not None and family not in source.families:
        raise SettingsError(f"no family {family!r}: there are {', '.join(source.families)}")
    tasks = [
        task
        for name in ([family] if family else source.families)
        for task in islice(source.draw(Random(f"{seed}/{name}"), name, "train"), count)
    ]
    with nullcontext() if as_json else _progress(f"answering {len(tasks)} tasks"):
        answers = _answers(settings, source, tasks, seed)
    verdicts: dict[str, list[bool]] = defaultdict(list)
    answered = []
    for task, answer in answers:
        try:
            right = task.is_correct(answer)
        except CheckFailed as error:
            source.note(str(error))
            continue
        verdicts[task.family].append(right)
        answered.append(
            {
                "family": task.family,
                "level": task.level,
                "right": right,
                "asked": task.messages[-1].get("content"),
                "answer": answer.strip(),
            }
        )
        if show and not as_json:
            mark = "[green]right[/green]" if right else "[red]wrong[/red]"
            console.print(f"{mark} [dim]{escape(task.family)} level {task.level}[/dim]")
            _print(f"  > {task.messages[-1].get('content')}")
            _print(f"  {answer.strip()}\n")
    if as_json:
        print_json({"answers": answered, "notes": list(source.notes)})
        return
    table = Table("family", "right", "of", box=None)
    for name, rights in verdicts.items():
        table.add_row(name, str(sum(rights)), str(len(rights)))
    console.print(table)
    _print_notes(source)


def _open(sources: Sequence[str] | None, settings: UpSettings) -> TaskSource:
    """The packs that are named, else those of the settings. Raises SettingsError."""
    given = ",".join(sources) if sources else LearnerSettings().tasks
    automatic = "ember" if settings.model_path == EMBER.resolve() else "general"
    try:
        return open_source(given, automatic)
    except PackError as error:
        raise SettingsError(f"BURNISH_TASKS: {error}") from error


def _answers(
    settings: UpSettings, source: TaskSource, tasks: Sequence[Task], seed: int
) -> list[tuple[Task, str]]:
    """One answer to each task that the model can be asked, at temperature 1."""
    import torch
    from burnish.kernels.folder import ModelError
    from burnish.kernels.loading import load_model
    from burnish.learner.training.prompts import answer_room, fitting, task_prompt
    from burnish.learner.training.rollouts import generate
    from burnish.serving.engine import LocalEngine, Request, SamplingParams

    torch.set_num_threads(settings.model_threads)
    try:
        model = load_model(settings.model_path)
    except ModelError as error:
        raise SettingsError(f"BURNISH_MODEL: {error}") from error
    longest = answer_room(model, LearnerSettings().max_answer_tokens)
    asked = list(fitting(model, source, tasks, longest))
    engine = LocalEngine(model, max_running=32, threads=settings.model_threads)
    requests = [
        Request(
            id=str(number),
            prompt_ids=task_prompt(model, task),
            params=SamplingParams(max_tokens=longest, seed=seed + number),
        )
        for number, task in enumerate(asked)
    ]
    rollouts = generate(engine, requests)
    return [(task, rollout.text) for task, rollout in zip(asked, rollouts, strict=True)]


def _jsonl_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def _count(tasks: Iterator[Any]) -> int | None:
    """How many; None where there is no end to them."""
    found = sum(1 for _ in islice(tasks, COUNTED))
    return None if found == COUNTED else found


def _print(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _print_notes(source: TaskSource) -> None:
    for note in source.notes:
        _print(f"not used: {note}")


@contextmanager
def _progress(what: str) -> Iterator[None]:
    with console.status(what):
        yield
