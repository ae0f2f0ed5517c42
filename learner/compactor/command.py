"""What `burnish train-compactor` does: a run with a progress bar, a report, the registry."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from burnish.learner.compactor import gate, online, versions
from burnish.learner.compactor.episodes import Arena
from burnish.learner.compactor.figures import curve, now
from burnish.learner.compactor.network import Network
from burnish.learner.compactor.training import (
    FIGURES,
    STATE,
    WEIGHTS,
    Progress,
    Recipe,
    TrainingError,
    train,
)
from burnish.learner.compactor.worlds import make_world
from burnish.learner.database import Database
from burnish.learner.settings import LearnerSettings
from burnish.memory.compaction.policies.learned import Learned
from burnish.memory.compaction.policies.recent import Recent
from burnish.memory.compaction.scorer import Scorer, ScorerError
from burnish.serving.registry import PolicyRegistry, RegistryError
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["CompactorError", "Recipe", "learn_online", "register", "run"]

SHARES = (0.03, 0.05, 0.1, 0.2)


class CompactorError(Exception):
    """One line that a person can act on."""


def run(out: Path, recipe: Recipe, *, fresh: bool = False, worlds: int = 6) -> None:
    """Train in `out`, then report held-out figures on `worlds` worlds (0: none)."""
    if fresh:
        for name in (STATE, FIGURES, WEIGHTS):
            (out / name).unlink(missing_ok=True)
    console = Console(file=sys.stderr)
    try:
        with Bar(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
        ) as bar:
            line = bar.add_task("practising", total=recipe.rounds)

            def told(recipe: Recipe, progress: Progress) -> None:
                phase = "imitation" if progress.round <= recipe.imitation_rounds else "reward"
                text = (
                    f"{phase} {progress.round}/{recipe.rounds}  score {progress.score:.3f}"
                    f"  tokens {progress.share:.1%}  lambda {progress.lam:.2f}"
                )
                bar.update(line, completed=progress.round, description=text)
                if not console.is_terminal:
                    console.print(text)

            network = train(out, recipe, resume=not fresh, told=told)
    except TrainingError as error:
        raise CompactorError(str(error)) from error
    if worlds:
        figures = heldout(network.scorer(), worlds)
        (out / "heldout.json").write_text(json.dumps(figures, indent=1) + "\n")
        console.print_json(data=figures)


def heldout(scorer: Scorer, worlds: int) -> dict[str, dict[str, float]]:
    """Score kept on held-out worlds by share of tokens, beside keeping the newest."""
    arenas = [Arena(make_world(seed, "heldout")) for seed in range(worlds)]
    return {
        name: {f"{p.share:g}": round(p.score, 4) for p in curve(decide, arenas, SHARES)}
        for name, decide in (
            ("learned", Learned(scorer).decided),
            ("recent", now(Recent())),
        )
    }


def register(out: Path, settings: LearnerSettings) -> None:
    """Put the run's weights before the gate and into the registry."""
    try:
        candidate = Scorer.load(out / WEIGHTS)
        registry = PolicyRegistry(settings.registry, settings.mlflow_artifacts)
        acting, scorer = versions.champion(registry, settings.data_dir / "fetched")
        report = gate.examine(candidate, scorer)
        version = versions.register(
            registry,
            Network.of(candidate),
            parent=acting.version,
            lineage={"rule": "practice worlds", "trained_at": time.time()},
            report=report,
        )
    except (RegistryError, ScorerError) as error:
        raise CompactorError(str(error)) from error
    fate = "passed the gate" if report.passed else f"refused: {report.why_not}"
    Console(file=sys.stderr).print(f"{version.ref}: {fate}", highlight=False)


def learn_online(settings: LearnerSettings) -> None:
    """One update from the feedback of real sessions."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.migrate()
    told = online.tick(settings, database)
    if told is None:
        raise CompactorError("another process is updating the compactor; try again later")
    line = told.did + (f" ({told.why_not})" if told.why_not else "")
    Console(file=sys.stderr).print(line, highlight=False)
