"""Research commands: `burnish simulate`, `pretrain`, `train-compactor`, `verify` and `kernels`.

Only their flags; the work is done in other modules, which also hold the defaults of `simulate`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from burnish.ops import settings as config
from burnish.ops.commands.client import ServiceError, find_url
from burnish.ops.commands.output import AsJson


def simulate(
    minutes: Annotated[float | None, typer.Option(help="Length of the live phase.")] = None,
    users: Annotated[int | None, typer.Option(help="End users.")] = None,
    judged: Annotated[float | None, typer.Option(help="Share of answers they judge.")] = None,
    flip: Annotated[float | None, typer.Option(help="Share of thumbs on the wrong button.")] = None,
    deviate: Annotated[float | None, typer.Option(help="Share with a taste of their own.")] = None,
    malicious: Annotated[float | None, typer.Option(help="Share who invert or spam.")] = None,
    retract: Annotated[float | None, typer.Option(help="Share of votes taken back.")] = None,
    late: Annotated[float | None, typer.Option(help="Share of votes that come late.")] = None,
    shadow: Annotated[float | None, typer.Option(help="Share the frozen base answers too.")] = None,
    rate: Annotated[float | None, typer.Option(help="Chats a second; 0: all it can.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Chats at a time.")] = None,
    prompts: Annotated[int | None, typer.Option(help="Prompts of the final evaluation.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws users and prompts.")] = None,
    model: Annotated[str | None, typer.Option(help="The policy they talk to.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and plots.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    url: Annotated[str | None, typer.Option(help="The service (BURNISH_URL).")] = None,
) -> None:
    """Let a simulated population use and judge the service; measure what it learnt."""
    flags = dict(locals())
    settings = config.load({"data_dir": flags.pop("data_dir"), "url": flags.pop("url")})
    from burnish.ops.simulate import SimulateError, main

    try:
        raise typer.Exit(main(url=find_url(settings), key=settings.api_key, **flags))
    except SimulateError as error:
        raise ServiceError(str(error)) from error


def pretrain(
    out: Annotated[Path, typer.Argument(help="Where the model folder goes.")],
    minutes: Annotated[float, typer.Option(help="Minutes of training.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Draws weights and dialogue.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume an earlier run.")] = False,
    threads: Annotated[int | None, typer.Option(help="CPU threads (up to 4).")] = None,
) -> None:
    """Make a model like the shipped one from nothing; goes on where an earlier run stopped."""
    from burnish.ops.pretrain import PretrainError, main

    try:
        main(out, minutes=minutes, seed=seed, resume=not fresh, threads=threads)
    except PretrainError as error:
        raise ServiceError(str(error)) from error


def verify(
    model: Annotated[Path, typer.Argument(help="Hugging Face folder, or GGUF file.")],
    weights: Annotated[
        str | None,
        typer.Option(help="A format, to see what it costs on this model (BURNISH_WEIGHTS)."),
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(help="A format of the cache, likewise (BURNISH_KV_CACHE).")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Random sequences.")] = 4,
    length: Annotated[int, typer.Option(min=4, help="Tokens of each.")] = 64,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of logits, by their spread.")
    ] = 1e-3,
    as_json: AsJson = False,
) -> None:
    """Compare our way of running a model with transformers' own; exit code 1 where they differ."""
    settings = config.load({"weights": weights, "kv_cache": kv_cache})
    from burnish.kernels.folder import ModelError
    from burnish.ops.commands import verify as report
    from rich.console import Console

    try:
        done = report.run(
            Console(),
            model,
            settings.weights,
            settings.kv_cache,
            rows=rows,
            length=length,
            tolerance=tolerance,
            as_json=as_json,
        )
    except ModelError as error:
        raise ServiceError(str(error)) from error
    raise typer.Exit(done)


def train_compactor(
    out: Annotated[Path, typer.Argument(help="Folder of the run; the weights end up in it.")],
    seed: Annotated[int, typer.Option(help="Draws worlds, weights and samples.")] = 0,
    imitation: Annotated[int, typer.Option(min=1, help="Rounds of imitating labels.")] = 9,
    reward: Annotated[int, typer.Option(min=0, help="Rounds of learning from reward.")] = 10,
    worlds: Annotated[int, typer.Option(min=1, help="Practice worlds per round.")] = 30,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume an earlier run.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    register: Annotated[
        bool, typer.Option("--register", help="Put the result before the gate and register it.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Learn from the feedback of real sessions instead.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
) -> None:
    """Train the memory's compaction policy; goes on where an earlier run stopped."""
    # Its matrices are too small to gain from threads. numpy reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from burnish.learner.compactor import command
    from burnish.learner.settings import LearnerSettings

    config.load({"data_dir": data_dir})
    try:
        if online:
            command.learn_online(LearnerSettings())
        else:
            training = command.CompactorTrainingConfig(
                seed, imitation, reward, worlds, threads=threads
            )
            command.run(out, training, fresh=fresh)
            if register:
                command.register(out, LearnerSettings())
    except command.CompactorError as error:
        raise ServiceError(str(error)) from error


def kernels(
    model: Annotated[
        Path | None, typer.Option(help="Hugging Face folder (default: the served one).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Which way each op and a model take on this machine, why, and each op's error; exit code 1 where
    one is off."""
    settings = config.load({"model": model})
    import torch
    from burnish.kernels.folder import ModelError
    from burnish.ops.commands import kernels as report
    from rich.console import Console

    torch.set_num_threads(settings.model_threads)  # as the service does: the choice depends on it
    try:
        raise typer.Exit(
            report.run(Console(), settings.model_path, settings.weights, as_json=as_json)
        )
    except ModelError as error:
        raise ServiceError(str(error)) from error
