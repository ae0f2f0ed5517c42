"""A whole update with a tiny model: database, real Redis, MLflow on SQLite, engine, gate."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from burnish.kernels.lora import load_adapter
from burnish.learner.database import AttemptRow, Database, TickRow, VersionEventRow
from burnish.learner.intake.consume import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import latest_ticks
from burnish.learner.training import checkpoint
from burnish.learner.training.trainer import PolicyTrainer
from burnish.learner.update.tick import Learner, Update
from burnish.serving.registry import prepare
from sqlalchemy import select

from tests.learner.conftest import interaction, thumbs

SMALL = {
    "min_feedback": 4,
    "min_experience": 8,
    "update_seconds": 60.0,
    "update_steps": 2,
    "answers_per_step": 16,
    "max_answer_tokens": 24,
    "max_prompt_tokens": 400,
    "gate_tasks_per_family": 1,
    "gate_max_kl": 50.0,
    "lora_rank": 4,
    "lora_alpha": 8,
}


def settings(data_dir: Path, redis_url: str, model: Path, **changes) -> LearnerSettings:
    return LearnerSettings(
        redis_url=redis_url, data_dir=data_dir, model=model, **{**SMALL, **changes}
    )


def judged(database: Database, numbers: range, policy: str = "default") -> None:
    """Answers of some tokens, liked when they are short."""
    rng = Random(numbers.start)
    with database.write() as session:
        events = []
        for number in numbers:
            length = rng.choice([2, 8])
            ids = [rng.randrange(30, 200) for _ in range(length)]
            answer = {"index": 0, "text": "x", "finish_reason": "stop", "token_ids": ids}
            answer |= {"logprobs": [-4.0] * length, "processed_logprobs": [-4.0] * length}
            prompt = [rng.randrange(30, 200) for _ in range(6)]
            events.append(
                interaction(number, prompt_ids=prompt, completions=[answer], policy=policy)
            )
            events.append(thumbs(number, "up" if length == 2 else "down"))
        upsert(session, events)


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes long to make its tables: made once, copied for each test."""
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
    made: dict[str, Learner] = {}

    def make(**changes) -> Learner:
        learner = Learner(settings(data_dir, redis_url, tiny_model, **changes))
        learner.database.migrate()
        # One model for all learners of a test: loading takes longer than the rest.
        if made:
            learner.__dict__["model"] = made["first"].model
        made.setdefault("first", learner)
        return learner

    return make


def lineage(database: Database) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    with database.read() as session:
        for row in session.scalars(select(VersionEventRow).order_by(VersionEventRow.event)):
            found.setdefault(row.version, []).append(row.event)
    return found


@pytest.mark.parametrize("rule", ["heads", "pg"])
def test_judgements_become_a_version_that_serves(learner_with, redis_client, rule):
    learner = learner_with(rule=rule)
    judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.why_not is None, tick
    assert tick.did.startswith("learnt from 12 new judgements in 2 steps and registered default@2")
    champion = learner.registry.champion("default")
    assert champion.version == 2
    assert champion.parent == 1
    assert len(champion.lineage["feedback_ids"]) == 12
    assert champion.gate_report["passed"]
    assert lineage(learner.database) == {2: [f"local/fb-{n:04}" for n in range(1, 13)]}
    assert latest_ticks(redis_client, 1)[0]["counts"]["version"] == 2


def test_the_next_version_goes_on_from_the_last(learner_with):
    learner = learner_with()
    judged(learner.database, range(1, 13))
    learner.tick("default")
    judged(learner.database, range(13, 19))
    tick = learner.tick("default")
    assert tick.counts["version"] == 3
    assert tick.counts["parent"] == 2
    assert tick.counts["judgements"] == 6
    with learner.database.read() as session:
        folders = [
            learner.settings.checkpoints / "default" / row.id
            for row in session.scalars(select(AttemptRow).order_by(AttemptRow.version))
        ]
    older, newer = (checkpoint.load(folder) for folder in folders)
    assert older is not None
    assert newer is not None
    steps = [
        next(v for k, v in c.optimiser.items() if k.startswith("step")) for c in (older, newer)
    ]
    assert steps == [2, 4], "the optimiser's moments are the parent's"
    events = lineage(learner.database)
    assert not set(events[2]) & set(events[3])


def test_too_few_judgements_train_nothing_and_say_so(learner_with, redis_client):
    learner = learner_with()
    judged(learner.database, range(1, 4))
    tick = learner.tick("default")
    assert tick.did == "trained nothing"
    assert "3 new judgements" in tick.why_not
    assert latest_ticks(redis_client, 1)[0]["why_not"] == tick.why_not
    judged(learner.database, range(4, 6))
    assert "first update wants 8" in learner.tick("default").why_not


def test_judgements_that_all_agree_train_nothing(learner_with):
    learner = learner_with()
    with learner.database.write() as session:
        events = [interaction(n) for n in range(1, 11)] + [thumbs(n) for n in range(1, 11)]
        upsert(session, events)
    tick = learner.tick("default")
    assert tick.why_not == "all 10 judged answers got the same reward"
    assert "0 new judgements" in learner.tick("default").why_not


def test_a_refused_version_is_kept_with_its_report_and_its_judgements_count_again(learner_with):
    strict = learner_with(gate_max_kl=1e-9, learning_rate=0.05)
    judged(strict.database, range(1, 13))
    tick = strict.tick("default")
    assert "kl is" in tick.why_not
    assert strict.registry.champion("default").version == 1
    assert strict.registry.get("default", 2).gate_report["passed"] is False
    assert "0 new judgements" in strict.tick("default").why_not, "the same again would end the same"
    judged(strict.database, range(13, 19))
    mild = learner_with()
    tick = mild.tick("default")
    assert tick.counts["parent"] == 1
    assert tick.counts["judgements"] == 18


def test_a_challenger_waits(learner_with):
    learner = learner_with(promotes="challenger")
    judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert "waits for someone" in tick.did
    assert learner.registry.champion("default").version == 1
    assert learner.registry.get("default", 2).aliases == ("challenger",)


def test_after_a_rollback_training_starts_from_the_version_that_serves(learner_with):
    learner = learner_with()
    judged(learner.database, range(1, 13))
    learner.tick("default")
    judged(learner.database, range(13, 19))
    learner.tick("default")
    learner.registry.rollback("default")
    judged(learner.database, range(19, 25))
    tick = learner.tick("default")
    assert tick.counts["parent"] == 2
    assert tick.counts["version"] == 4
    assert tick.counts["judgements"] == 12, "those of the version that was rolled back count again"


def test_policies_learn_apart(learner_with):
    learner = learner_with()
    judged(learner.database, range(1, 13), "default")
    judged(learner.database, range(21, 33), "shop")
    learner.tick("default")
    assert learner.tick("shop").counts["judgements"] == 12
    assert learner.registry.champion("shop").version == 2


def test_another_worker_at_it_is_no_error(learner_with, lease_on):
    learner = learner_with()
    with lease_on(learner.database, "update:default"):
        assert learner.tick("default") is None


def test_without_its_checkpoint_a_parent_is_fetched_from_the_registry(learner_with):
    learner = learner_with()
    judged(learner.database, range(1, 13))
    learner.tick("default")
    shutil.rmtree(learner.settings.checkpoints)
    judged(learner.database, range(13, 19))
    assert learner.tick("default").counts["version"] == 3


# -- killed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crash",
    ["train", "examine", "register", "after register", "promote", "after promote", "tell"],
)
def test_a_tick_that_dies_anywhere_is_taken_up_and_counts_once(learner_with, monkeypatch, crash):
    learner = learner_with()
    judged(learner.database, range(1, 13))

    class Killed(BaseException):
        pass

    def die(*_args, **_keywords):
        raise Killed

    with monkeypatch.context() as patch:
        if crash == "train":
            patch.setattr("burnish.learner.update.tick.train", die)
        elif crash == "after register":
            register = learner.registry.register
            patch.setattr(learner.registry, "register", lambda *a, **k: (register(*a, **k), die()))
        elif crash == "after promote":
            promote = learner.registry.promote
            patch.setattr(learner.registry, "promote", lambda *a, **k: (promote(*a, **k), die()))
        else:
            patch.setattr(Update, crash, die)
        with pytest.raises(Killed):
            learner.tick("default")
    judged(learner.database, range(13, 19))
    tick = learner_with().tick("default")
    assert tick.counts["version"] == 2
    assert tick.counts["judgements"] == 12, "those that came later belong to the next"
    assert learner.registry.champion("default").version == 2
    assert [v.version for v in learner.registry.versions("default")] == [1, 2]
    tick = learner_with().tick("default")
    assert tick.counts["judgements"] == 6
    events = lineage(learner.database)
    assert sorted(events[2] + events[3]) == [f"local/fb-{n:04}" for n in range(1, 19)]
    with learner.database.read() as session:
        states = session.scalars(select(AttemptRow.state)).all()
        lines = session.scalars(select(TickRow)).all()
    assert set(states) == {"finished"}
    assert len(lines) == 2


CHILD = """
import sys
from pathlib import Path
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.tick import Learner
settings = LearnerSettings.model_validate_json(sys.argv[1])
Learner(settings).tick("default")
"""


def test_kill_9_in_the_middle_of_training_resumes_from_the_checkpoint(
    data_dir, redis_url, redis_client, tiny_model
):
    slow = settings(
        data_dir, redis_url, tiny_model, update_steps=60, checkpoint_seconds=0.01, lease_seconds=2.0
    )
    learner = Learner(slow)
    learner.database.migrate()
    judged(learner.database, range(1, 13))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, slow.model_dump_json()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    folder = slow.checkpoints / "default"
    deadline = time.monotonic() + 250
    try:
        while not list(folder.glob("[!.]*/progress.json")):
            assert child.poll() is None, "the child ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = [checkpoint.load(path) for path in folder.iterdir() if not path.name.startswith(".")]
    assert len(left) == 1
    assert left[0] is not None
    done_before = left[0].progress.step
    assert 0 < done_before < 60

    assert learner.tick("default") is None, "the dead one's lease still runs"
    time.sleep(2.1)
    quick = Learner(slow.model_copy(update={"update_steps": done_before + 2}))
    tick = quick.tick("default")
    assert tick is not None
    assert tick.counts["steps"] == done_before + 2
    assert tick.counts["judgements"] == 12
    assert lineage(learner.database) == {2: [f"local/fb-{n:04}" for n in range(1, 13)]}
    assert learner.registry.champion_version("default") == 2
    served = quick.registry.fetch(quick.registry.get("default", 2), data_dir / "fetched")
    assert served is not None
    assert load_adapter(served).spec.rank == 4


def test_steps_taken_before_a_kill_are_not_taken_again(learner_with, monkeypatch):
    learner = learner_with(update_steps=3, checkpoint_seconds=1e-6)
    judged(learner.database, range(1, 13))
    step, taken = PolicyTrainer.step, []

    class Killed(BaseException):
        pass

    def counted(self, answers):
        if len(taken) == 2:
            raise Killed
        taken.append(1)
        return step(self, answers)

    with monkeypatch.context() as patch:
        patch.setattr(PolicyTrainer, "step", counted)
        with pytest.raises(Killed):
            learner.tick("default")
        taken.clear()
        tick = learner_with(update_steps=3).tick("default")
    assert tick.counts["steps"] == 3
    assert len(taken) == 1
