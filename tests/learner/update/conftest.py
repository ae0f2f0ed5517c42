"""A learner on a tiny model: database, real Redis, MLflow on SQLite, engine and gate."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import VersionEventRow
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.learner.update.tick import Learner
from burnish.serving.registry import prepare
from sqlalchemy import select

from tests.learner.conftest import interaction, thumbs

SMALL = {
    "min_feedback": 4,
    "min_experience": 8,
    "update_seconds": 600.0,
    "update_steps": 2,
    "answers_per_step": 16,
    "max_answer_tokens": 24,
    "max_prompt_tokens": 400,
    "promotes": "champion",
    "tasks": "ember",
    "gate_tasks_per_family": 1,
    "gate_max_kl": 50.0,
    "gate_skill_margin": 1.0,
    "gate_limits": Path(__file__).parent / "lenient.yaml",
    "lora_rank": 4,
    "lora_alpha": 8,
}


def progress(**changes: Any) -> TrainingProgress:
    """Of a policy's first update."""
    first = TrainingProgress("u", "default", 1, "", 0, 0, 0.0, True, "", 0)
    return replace(first, **changes)


def small_settings(data_dir: Path, redis_url: str, model: Path, **changes) -> LearnerSettings:
    return LearnerSettings(
        redis_url=redis_url, data_dir=data_dir, model=model, **{**SMALL, **changes}
    )


def add_judged(database: Database, numbers: range, policy: str = "default", users: int = 1) -> None:
    """Random answers of two or eight tokens, two to each prompt; the short ones are liked, and made of
    other tokens than the long. `users` ask and judge in turns."""
    rng = Random(numbers.start)
    prompts = {n // 2: [rng.randrange(30, 200) for _ in range(6)] for n in numbers}
    with database.write() as session:
        events = []
        for number in numbers:
            length = rng.choice([2, 8])
            ids = [rng.randrange(*((30, 40) if length == 2 else (190, 200))) for _ in range(length)]
            answer = {"index": 0, "text": "x", "finish_reason": "stop", "token_ids": ids}
            answer |= {"logprobs": [-4.0] * length, "processed_logprobs": [-4.0] * length}
            prompt = prompts[number // 2]
            user = f"user-{number % users}" if users > 1 else "ada"
            asked = {"prompt_ids": prompt, "completions": [answer], "policy": policy}
            events.append(interaction(number, user=user, **asked))
            events.append(thumbs(number, "up" if length == 2 else "down", user=user))
        upsert(session, events)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take long to make: copied for each test."""
    folder = tmp_path_factory.mktemp("mlflow")
    prepare(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def data_dir(tmp_path: Path, empty_registry: Path) -> Path:
    folder = tmp_path / "data" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty_registry, folder / "mlflow.db")
    return folder.parent


@pytest.fixture
def learner_with(data_dir, redis_url, redis_client, tiny_model) -> Callable[..., Learner]:
    made: list[Learner] = []

    def make(model: Path = tiny_model, **changes) -> Learner:
        learner = Learner(small_settings(data_dir, redis_url, model, **changes))
        learner.database.migrate()
        # One model for all learners of a test, since loading takes longer than the rest.
        learner.model = made[0].model if made else learner.model
        made.append(learner)
        return learner

    return make


def lineage(database: Database) -> dict[int, list[str]]:
    """The judgements that were new to each version."""
    found: dict[int, list[str]] = {}
    with database.read() as session:
        for row in session.scalars(select(VersionEventRow).order_by(VersionEventRow.event)):
            found.setdefault(row.version, []).append(row.event)
    return found
