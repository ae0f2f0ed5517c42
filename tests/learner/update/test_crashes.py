"""Updates that die: taken up by the next tick, and every judgement counted once."""

import os
import signal
import subprocess
import sys
import time

import pytest
from burnish.kernels.lora import load_adapter
from burnish.learner.tables import AttemptRow, TickRow
from burnish.learner.training import checkpoint
from burnish.learner.training.trainer import PolicyTrainer
from burnish.learner.update.tick import Learner
from burnish.serving.registry import RegistryError
from sqlalchemy import select

from tests.learner.update.conftest import add_judged, lineage, small_settings


@pytest.mark.parametrize(
    "crash",
    ["train", "evaluate", "register", "after register", "promote", "after promote", "summarise"],
)
def test_a_tick_that_dies_anywhere_is_taken_up_and_counts_once(learner_with, monkeypatch, crash):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))

    class Killed(BaseException):
        pass

    def die(*_args, **_keywords):
        raise Killed

    with monkeypatch.context() as patch:
        if crash == "after register":
            register = learner.registry.register
            patch.setattr(learner.registry, "register", lambda *a, **k: (register(*a, **k), die()))
        elif crash == "after promote":
            promote = learner.registry.promote
            patch.setattr(learner.registry, "promote", lambda *a, **k: (promote(*a, **k), die()))
        else:
            patch.setattr(f"burnish.learner.update.tick.{crash}", die)
        with pytest.raises(Killed):
            learner.tick("default")
    add_judged(learner.database, range(13, 19))
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


def test_an_attempt_that_fails_every_time_is_given_up_and_the_next_goes_on(
    learner_with, monkeypatch
):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))

    def poisoned(*_arguments, **_keywords):
        raise ValueError("poison")

    with monkeypatch.context() as patch:
        patch.setattr("burnish.learner.update.tick.train", poisoned)
        for _ in range(2):
            with pytest.raises(ValueError, match="poison"):
                learner.tick("default")
        assert "ValueError: poison; given up after 3 tries" in learner.tick("default").why_not
    waiting = learner.tick("default").why_not
    assert "0 new judgements" in waiting
    assert "the last attempt was given up after 3 tries: ValueError: poison" in waiting
    add_judged(learner.database, range(13, 19))
    tick = learner.tick("default")
    assert (tick.counts["version"], tick.counts["judgements"]) == (2, 18)


def test_an_attempt_that_kills_its_ticks_is_given_up(learner_with, monkeypatch):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))

    class Killed(BaseException):
        pass

    def die(*_arguments, **_keywords):
        raise Killed

    monkeypatch.setattr("burnish.learner.update.tick.train", die)
    for _ in range(3):
        with pytest.raises(Killed):
            learner.tick("default")
    assert "given up after 3 tries: its process died" in learner.tick("default").why_not


def test_a_service_that_is_away_costs_an_attempt_nothing(learner_with, monkeypatch):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))

    def away(*_arguments, **_keywords):
        raise RegistryError("away")

    with monkeypatch.context() as patch:
        patch.setattr("burnish.learner.update.tick.register", away)
        for _ in range(5):
            with pytest.raises(RegistryError):
                learner.tick("default")
    assert learner.tick("default").counts["version"] == 2


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
    slow = small_settings(
        data_dir,
        redis_url,
        tiny_model,
        answers_per_step=8,  # of which twelve judgements bear 24 steps
        update_steps=60,
        checkpoint_seconds=0.01,
        lease_seconds=600.0,
    )
    learner = Learner(slow)
    learner.database.migrate()
    add_judged(learner.database, range(1, 13))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, slow.model_dump_json()],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    folder = slow.checkpoints / "default"
    deadline = time.monotonic() + 250
    try:
        while not (written := list(folder.glob("[!.]*/progress.json"))):
            assert child.poll() is None, "the child ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = checkpoint.load(written[0].parent)
    assert left is not None
    done_before = left.progress.step
    assert 0 < done_before < 22

    assert learner.tick("default") is None, "the dead process's lease has not run out"
    redis_client.delete(*redis_client.keys("burnish:lease:*"))
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
    add_judged(learner.database, range(1, 13))
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
