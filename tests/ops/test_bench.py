"""What the benches conclude from what they saw. Running them takes a service and minutes."""

from pathlib import Path

import pytest
from burnish.ops.bench import chaos, simulate, swaps
from burnish.ops.bench.results import keep
from burnish.ops.bench.service import BenchError, Running


def stream(key: str, begin: float, *arrivals: float, versions: set[str], failure=None):
    return swaps.Stream(begin, key, versions, list(arrivals), failure)


def test_an_answer_of_two_versions_is_mixed_and_a_wrong_record_is_named() -> None:
    streams = [
        stream("a", 0, 0.1, 0.2, 0.9, versions={"default@2"}),
        stream("b", 0, 0.3, 0.4, versions={"default@2", "default@3"}),
        stream("c", 0, 0.5, 0.6, versions={"default@3"}),
        stream("d", 0, versions=set(), failure="APIError: gone"),
    ]
    calm = [stream("z", 0, 0.0, 0.1, versions={"default@1"})]
    recorded = {"a": "default@2", "c": "default@2"}
    figures = swaps.figures_of(calm, streams, [0.5, 1.5, 1.0], recorded)
    assert figures["mixed"] == 1
    assert figures["failed"] == 1
    assert figures["recorded_otherwise"] == 1
    assert figures["not_recorded"] == 1
    assert figures["longest_gap_seconds"] == pytest.approx(0.7)
    assert figures["streams_at_work_during_a_swap"] == 1
    assert figures["median_promotion_to_first_answer_seconds"] == 1.0


def test_chaos_names_what_is_missing_and_what_is_there_twice() -> None:
    taken = chaos.Acknowledged(
        interactions=["i1", "i2"], feedback=["f1", "f2", "f3"], retractions=["f3"]
    )
    found = {
        "interactions": ["i1", "i9"],
        "feedback": ["f1", "f2", "f2", "f3"],
        "retractions": ["f3"],
        "experience": ["f1", "f1"],
    }
    rows = chaos.compared(taken, found)
    assert rows["interactions"] == {"acknowledged": 2, "missing": 1, "twice": 0}
    assert rows["feedback"] == {"acknowledged": 3, "missing": 0, "twice": 1}
    assert rows["retractions"] == {"acknowledged": 1, "missing": 0, "twice": 0}
    assert rows["experience"] == {"acknowledged": 2, "missing": 1, "twice": 1}
    assert chaos.plain("local/f1#2") == "f1"


def test_a_simulated_run_is_judged_by_its_promises() -> None:
    results = {
        "traffic": {"failed": 0},
        "evaluation": {"share": 0.61, "skill_difference": -0.02},
        "cadence": {"median_seconds": 45.0},
    }
    held = simulate.judge(results)
    assert [name for name, kept in held.items() if not kept] == ["skill within a point"]


def test_results_name_the_machine(tmp_path: Path) -> None:
    path = keep("swaps", {"failed": 0}, tmp_path)
    assert '"cores"' in path.read_text()
    assert '"failed": 0' in path.read_text()


def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    service = Running("http://127.0.0.1:9", tmp_path, tmp_path / "up.log")
    with pytest.raises(BenchError, match="serving does not run"):
        service.pid("serving")
    with pytest.raises(BenchError, match="not ready"):
        service.await_ready(patience=0.1)
