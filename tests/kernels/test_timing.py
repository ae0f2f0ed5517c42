"""Timing a model's shape: what stands for it, how times make up the whole, and when to stop."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from burnish.kernels import timing
from burnish.kernels.choice import NotTimed, Shape, Times
from burnish.kernels.timing import Case, Miniature, build, reduce, time_cases, time_ways, weigh

from tests.kernels.cpu.test_training import config_for
from tests.kernels.random_models import FAMILIES

NEVER = 1e9


@dataclass
class Clock:
    """Time that passes only while something runs; counts the runs."""

    now: float = 0.0
    runs: list[tuple[Any, bool]] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def case(self, tokens: int, layers_s: dict[str, float], head_s: float = 0.0) -> Case:
        def run(model: Any, head: bool) -> None:
            self.runs.append((model, head))
            self.now += layers_s[model] + (head_s if head else 0.0)

        return Case(tokens, run)


def small(layers: float = 1.0, head: float = 1.0) -> Miniature:
    return Miniature("native", "pytorch", layers, head, True)  # type: ignore[arg-type]


def test_layers_and_head_are_scaled_to_the_whole_each_by_its_own_share() -> None:
    clock = Clock()
    cases = {"decode 1": clock.case(1, {"native": 0.25, "pytorch": 0.5}, head_s=0.125)}
    found = time_cases(cases, small(layers=10, head=4), NEVER, clock)
    assert found == {"decode 1": Times(3000.0, 5500.0)}


def test_the_ways_take_turns() -> None:
    clock = Clock()
    time_cases({"any": clock.case(1, {"native": 1.0, "pytorch": 1.0})}, small(), NEVER, clock)
    models = [model for model, _ in clock.runs]
    assert models == ["native", "native", "pytorch", "pytorch"] * timing.TURNS


def test_a_case_that_would_not_be_done_in_time_is_left_out() -> None:
    clock = Clock()
    each = {"native": 0.1, "pytorch": 0.1}
    cases = {"quick": clock.case(1, each), "long": clock.case(1000, {"native": 20, "pytorch": 20})}
    found = time_cases(cases, small(), 2.5, clock)
    assert set(found) == {"quick"}
    assert clock.now < 2.5


def test_a_case_that_takes_long_is_run_once() -> None:
    clock = Clock()
    time_cases({"any": clock.case(1, {"native": 0.6, "pytorch": 0.6})}, small(), 2.5, clock)
    assert len(clock.runs) == 4


def test_an_answer_costs_its_prompt_and_the_mean_of_its_tokens_at_each_number_of_readers() -> None:
    cases = {
        "decode 1": Times(1.0, 2.0),
        "decode 8": Times(8.0, 4.0),
        "decode 64": Times(64.0, 32.0),
        "prefill": Times(100.0, 50.0),
        "training": Times(7.0, 9.0),
    }
    assert weigh(cases) == {
        "steps": Times(100.0 + 64 * 1.0, 50.0 + 64 * 1.0),
        "training": Times(7.0, 9.0),
    }


def test_nothing_timed_is_told() -> None:
    with pytest.raises(NotTimed, match="too slow"):
        weigh({})


def test_the_last_layers_stand_for_all() -> None:
    config = config_for("deepseek_v3", first_k_dense_replace=2)
    config.num_hidden_layers = 6
    reduced = reduce(config, 2, 50)
    assert (reduced.num_hidden_layers, reduced.vocab_size) == (2, 50)
    assert reduced.first_k_dense_replace == 0
    assert (config.num_hidden_layers, config.vocab_size) == (6, 77)  # a copy


@pytest.mark.usefixtures("native_library")
@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_of_every_family_can_be_timed(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TURNS", 1)
    monkeypatch.setattr(timing, "BUDGET_S", NEVER)
    monkeypatch.setattr(timing, "LAYER_PARAMETERS", 1)  # one layer
    found = time_ways(Shape(config_for(family), torch.float32, "float32"))
    assert set(found) == {"steps", "sequences", "training"}
    assert all(t.native_ms > 0 and t.pytorch_ms > 0 for t in found.values())


@pytest.mark.usefixtures("native_library")
def test_the_smaller_model_computes_the_same_on_both_ways() -> None:
    made = build(Shape(config_for("qwen3_moe"), torch.float32, "float32"))
    timing._set_adapter(made)
    sequences = [[5, 9, 31, 2, 70, 8], [3, 3, 12]]
    for slot in (0, 1):
        ours, its = (way.read(sequences, [1, 1], slot) for way in (made.native, made.pytorch))
        torch.testing.assert_close(ours, its, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("native_library")
def test_training_is_not_timed_where_the_library_cannot_train() -> None:
    assert not build(Shape(config_for("llama"), torch.float32, "int8")).trains


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "available_bytes", lambda: 1000)
    with pytest.raises(NotTimed, match="MiB of memory"):
        build(Shape(config_for("llama"), torch.float32, "float32"))
