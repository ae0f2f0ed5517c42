"""The choice between the native library and PyTorch: its rule, what it depends on, what keeps it."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from burnish.kernels import choice as module
from burnish.kernels.choice import MARGIN, WORKS, Choice, NotTimed, Shape, Times, Way, Work, choose
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels.random_models import config_of

FORK = multiprocessing.get_context("fork")
SLOW_TRAINING: dict[Work, Times] = {
    "steps": Times(1.0, 4.0),
    "sequences": Times(2.0, 3.0),
    "training": Times(30.0, 3.0),
}
milliseconds = st.floats(1e-3, 1e6)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing forced."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BURNISH_CPU")
    return tmp_path / "burnish"


@pytest.fixture
def shape() -> Shape:
    return Shape(config_of("llama", 64, (4, 2), 16, intermediate_size=48), torch.float32, "float32")


class Counting:
    """A timer that tells what it is given and counts how often it is asked."""

    def __init__(self, times: dict[Work, Times] = SLOW_TRAINING) -> None:
        self.times, self.asked = times, 0

    def __call__(self, shape: Shape) -> dict[Work, Times]:
        self.asked += 1
        return self.times


def never(shape: Shape) -> dict[Work, Times]:
    raise AssertionError("nothing is to be timed")


def only_file(cache: Path) -> Path:
    (file,) = cache.glob("choice-*.json")
    return file


# -- the rule -----------------------------------------------------------------------------------


@given(milliseconds, milliseconds)
def test_pytorch_is_taken_only_where_the_library_is_clearly_slower(ours: float, its: float) -> None:
    assert Way.of(Times(ours, its)).native == (ours / its <= 1 + MARGIN)


def test_each_kind_of_work_is_chosen_for_itself(shape: Shape) -> None:
    found = choose(shape, Counting())
    assert {work: found.native(work) for work in WORKS} == {
        "steps": True,
        "sequences": True,
        "training": False,
    }
    assert "10.00 of PyTorch's time" in found.ways["training"].why


def test_what_was_not_timed_is_native(shape: Shape) -> None:
    found = choose(shape, Counting({"steps": Times(9.0, 1.0)}))
    assert not found.native("steps")
    assert found.native("training")
    assert "not timed" in found.ways["training"].why


# -- what keeps it --------------------------------------------------------------------------------


def test_a_shape_is_timed_once(shape: Shape, cache: Path) -> None:
    first = choose(shape, Counting())
    assert choose(shape, never) == first
    assert first.kept == only_file(cache)


def test_names_and_special_tokens_are_no_part_of_a_shape(shape: Shape) -> None:
    choose(shape, Counting())
    config = config_of("llama", 64, (4, 2), 16, intermediate_size=48)
    config._name_or_path, config.eos_token_id = "another", 7
    assert choose(replace(shape, config=config), never).timed_at


def wider(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    return replace(shape, config=config_of("llama", 128, (4, 2), 16, intermediate_size=48))


def in_another_format(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    return replace(shape, weights="bfloat16")


def in_another_type(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    return replace(shape, dtype=torch.bfloat16)


def on_another_processor(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    monkeypatch.setattr(module.library, "processor", lambda: "another")
    return shape


def with_more_threads(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    return shape


def with_another_torch(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    monkeypatch.setattr(torch, "__version__", "99.0")
    return shape


def with_other_code(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Shape:
    monkeypatch.setattr(module, "CODE", module.CODE[1:])
    return shape


@pytest.mark.parametrize(
    "change",
    [
        wider,
        in_another_format,
        in_another_type,
        on_another_processor,
        with_more_threads,
        with_another_torch,
        with_other_code,
    ],
)
def test_what_the_times_depend_on_is_timed_anew(
    change: Callable[[Shape, pytest.MonkeyPatch], Shape],
    shape: Shape,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose(shape, Counting())
    again = Counting()
    choose(change(shape, monkeypatch), again)
    assert again.asked == 1


def cut(told: dict[str, Any]) -> str:
    return json.dumps(told)[:-20]


def without_a_time(told: dict[str, Any]) -> str:
    del told["times"]["steps"]["native_ms"]
    return json.dumps(told)


def with_a_time_that_cannot_be(told: dict[str, Any]) -> str:
    told["times"]["steps"]["native_ms"] = -1
    return json.dumps(told)


def with_words_for_a_time(told: dict[str, Any]) -> str:
    told["times"]["steps"]["native_ms"] = "long"
    return json.dumps(told)


def of_another_kind(told: dict[str, Any]) -> str:
    return "[1, 2]"


@pytest.mark.parametrize(
    "damage",
    [cut, without_a_time, with_a_time_that_cannot_be, with_words_for_a_time, of_another_kind],
)
def test_a_damaged_file_is_written_anew(
    damage: Callable[[dict[str, Any]], str],
    shape: Shape,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = choose(shape, Counting())
    file = only_file(cache)
    file.write_text(damage(json.loads(file.read_text())))
    again = Counting()
    assert choose(shape, again).ways == first.ways
    assert again.asked == 1
    assert "anew" in caplog.text
    choose(shape, never)


def test_without_a_place_to_keep_it_a_choice_is_made_all_the_same(
    shape: Shape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = choose(shape, Counting())
    assert not found.native("training")
    assert found.kept is None
    assert "not kept" in caplog.text


# -- what is not timed ----------------------------------------------------------------------------


def test_an_instruction_set_that_was_asked_for_is_taken_untimed(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURNISH_CPU", "avx2")
    found = choose(shape, never)
    assert all(found.native(work) for work in WORKS)
    assert "BURNISH_CPU=avx2" in found.ways["steps"].why


def test_where_it_cannot_be_timed_the_library_serves_and_the_next_start_tries_again(
    shape: Shape, cache: Path
) -> None:
    def short_of_memory(shape: Shape) -> dict[Work, Times]:
        raise NotTimed("no memory")

    found = choose(shape, short_of_memory)
    assert all(found.native(work) for work in WORKS)
    assert found.ways["steps"].why == "not timed: no memory"
    assert not list(cache.glob("choice-*.json"))
    assert choose(shape, Counting()).timed_at


# -- several processes ----------------------------------------------------------------------------


class Started:
    """A process that chooses: it tells when its timer is asked, and times until it is let go."""

    def __init__(self, shape: Shape) -> None:
        self.asked, self.go, self.found = FORK.Event(), FORK.Event(), FORK.SimpleQueue()
        self.process = FORK.Process(target=self._choose, args=(shape,))
        self.process.start()

    def _choose(self, shape: Shape) -> None:
        def timer(shape: Shape) -> dict[Work, Times]:
            self.asked.set()
            self.go.wait(60)
            return SLOW_TRAINING

        self.found.put(choose(shape, timer))

    def choice(self) -> Choice:
        self.process.join(60)
        assert self.process.exitcode == 0
        return self.found.get()


@pytest.fixture
def first(shape: Shape) -> Iterator[Started]:
    """A process that is timing."""
    started = Started(shape)
    assert started.asked.wait(60)
    yield started
    if started.process.is_alive():
        started.process.kill()
    started.process.join()


def test_of_two_processes_one_times_and_both_choose_alike(shape: Shape, first: Started) -> None:
    second = Started(shape)
    assert not second.asked.wait(0.2)  # it waits for the first
    first.go.set()
    assert first.choice() == second.choice()
    assert not second.asked.is_set()


def test_a_process_that_dies_while_timing_blocks_no_other(shape: Shape, first: Started) -> None:
    assert first.process.pid is not None
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.join()
    again = Counting()
    choose(shape, again)
    assert again.asked == 1


def test_one_that_hangs_is_waited_for_only_so_long(shape: Shape, first: Started) -> None:
    found = choose(shape, never, patience_s=0.1)
    assert found.native("training")
    assert "another process" in found.ways["steps"].why
