"""The command `burnish train-compactor`: a training run with a progress bar, held-out figures, registering."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from burnish.learner.compactor import gate, online, versions
from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import run_sync, score_curve
from burnish.learner.compactor.network import Network
from burnish.learner.compactor.training import (
    FIGURES,
    STATE,
    WEIGHTS,
    CompactorTrainingConfig,
    CompactorTrainingProgress,
    TrainingError,
    train,
)
from burnish.learner.compactor.world_generator import make_world
from burnish.learner.database import Database
from burnish.learner.settings import LearnerSettings
from burnish.memory.compaction import LearnedPolicy, RecentPolicy, Scorer, ScorerError
from burnish.serving.registry import PolicyRegistry, RegistryError, signing_keys
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["CompactorError", "CompactorTrainingConfig", "learn_online", "register", "run"]

SHARES = (0.03, 0.05, 0.1, 0.2)


class CompactorError(Exception):
    """One line that a person can act on."""


def run(
    out: Path, config: CompactorTrainingConfig, *, fresh: bool = False, worlds: int = 6
) -> None:
    """Train in `out`, then report held-out figures on `worlds` worlds (0: none)."""
    if fresh:
        for name in (STATE, FIGURES, WEIGHTS):
            (out / name).unlink(missing_ok=True)
    console = Console(file=sys.stderr)
    try:
        with Bar(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
        ) as bar:
            task = bar.add_task("training", total=config.rounds)

            def on_round(
                config: CompactorTrainingConfig, progress: CompactorTrainingProgress
            ) -> None:
                phase = "imitation" if progress.round <= config.imitation_rounds else "reward"
                text = (
                    f"{phase} {progress.round}/{config.rounds}  score {progress.score:.3f}"
                    f"  tokens {progress.share:.1%}  lambda {progress.lam:.2f}"
                )
                bar.update(task, completed=progress.round, description=text)
                if not console.is_terminal:
                    console.print(text)

            network = train(out, config, resume=not fresh, on_round=on_round)
    except TrainingError as error:
        raise CompactorError(str(error)) from error
    if worlds:
        figures = heldout(network.scorer(), worlds)
        (out / "heldout.json").write_text(json.dumps(figures, indent=1) + "\n")
        console.print_json(data=figures)


def heldout(scorer: Scorer, worlds: int) -> dict[str, dict[str, float]]:
    """Score kept on held-out worlds by share of tokens, beside keeping the newest."""
    environments = [Environment(make_world(seed, "heldout")) for seed in range(worlds)]
    return {
        name: {f"{p.share:g}": round(p.score, 4) for p in score_curve(decide, environments, SHARES)}
        for name, decide in (
            ("learned", LearnedPolicy(scorer).decide_sync),
            ("recent", run_sync(RecentPolicy())),
        )
    }


def register(out: Path, settings: LearnerSettings) -> None:
    """Evaluate the run's weights against the champion and register them with the gate's report."""
    try:
        candidate = Scorer.load(out / WEIGHTS)
        registry = PolicyRegistry(
            settings.registry, settings.mlflow_artifacts, keys=signing_keys(settings.data_dir)
        )
        acting, scorer = versions.champion(registry, settings.data_dir / "fetched")
        report = gate.evaluate(candidate, scorer)
        version = versions.register(
            registry,
            Network.of(candidate),
            parent=acting.version,
            lineage={"rule": "practice worlds", "trained_at": time.time()},
            report=report,
        )
    except (RegistryError, ScorerError) as error:
        raise CompactorError(str(error)) from error
    result = "passed the gate" if report.passed else f"refused: {report.why_not}"
    Console(file=sys.stderr).print(f"{version.ref}: {result}", highlight=False)


def learn_online(settings: LearnerSettings) -> None:
    """One update from the feedback on real sessions. Raises CompactorError while another one runs."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.migrate()
    tick = online.update_compactor(settings, database)
    if tick is None:
        raise CompactorError("another process is updating the compactor; try again later")
    sentence = tick.did + (f" ({tick.why_not})" if tick.why_not else "")
    Console(file=sys.stderr).print(sentence, highlight=False)
