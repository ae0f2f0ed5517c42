"""Other people's code that hangs is stopped and told, and the rest goes on."""

import re
import signal
from itertools import islice
from random import Random
from threading import Thread

import pytest
from burnish.learner.tasks import CheckFailed, GeneratorPack, Task, TaskSource, time_limit

ASKED = ({"role": "user", "content": "Say anything."},)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(time_limit, "SECONDS", 0.05)


def hangs(answer: str) -> bool:
    while answer:
        pass
    return True


def backtracks(answer: str) -> bool:
    return re.fullmatch("(a+)+b", answer) is not None


@pytest.mark.parametrize("check", [hangs, backtracks])
def test_a_checker_that_hangs_gives_no_verdict(check):
    task = Task("stories", ASKED, check)
    with pytest.raises(CheckFailed) as failed:
        task.is_correct("a" * 60)
    assert str(failed.value) == (
        "the checker of stories raised TimeoutError: no end after 0.05 seconds"
    )
    assert Task("stories", ASKED, bool).is_correct("a"), "the next is checked as ever"


def test_a_generator_that_hangs_costs_its_family_alone():
    def good(rng: Random, level: int) -> Task:
        return Task("", ({"role": "user", "content": f"Say {rng.random()}."},), bool)

    pack = GeneratorPack("ours", {"stuck": lambda rng, level: hangs("a"), "good": good})  # type: ignore[dict-item, return-value]
    source = TaskSource([pack])
    assert list(source.draw(Random(0), "stuck", "train")) == []
    assert len(list(islice(source.draw(Random(0), "good", "train"), 3))) == 3
    assert list(source.notes) == [
        "ours: the generator of stuck raised TimeoutError: no end after 0.05 seconds"
    ]


def test_a_timer_that_ran_before_runs_on():
    def rang(number, frame):
        raise AssertionError("it must not ring here")

    before = signal.signal(signal.SIGALRM, rang)
    mine = signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        with time_limit.time_limit():
            pass
        assert signal.getsignal(signal.SIGALRM) is rang
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, *mine)
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_nothing_is_limited():
    said = []
    thread = Thread(target=lambda: said.append(Task("stories", ASKED, bool).is_correct("a")))
    thread.start()
    thread.join()
    assert said == [True]
