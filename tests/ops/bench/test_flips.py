"""Adapter swaps under 32 streams: a short run of the benchmark, and that it detects mixed answers."""

from pathlib import Path

from burnish.ops.bench import flips


def test_swaps_lose_no_request_and_mix_no_versions(tiny_model: Path) -> None:
    figures = flips.measure(tiny_model, swaps=60, clients=32, tokens=12, seconds=0.3, threads=None)
    assert (figures["swaps"], figures["failed"], figures["mixed"]) == (60, 0, 0)
    assert figures["answers_through_a_swap"] > 0
    assert figures["longest_gap_ms"] < 2000


def test_an_answer_of_another_version_would_be_seen(tiny_model: Path, monkeypatch) -> None:
    right = flips.expected_answers

    def swapped(*args, **more):
        said = right(*args, **more)
        return {(version ^ 1, at): tokens for (version, at), tokens in said.items()}

    monkeypatch.setattr(flips, "expected_answers", swapped)
    figures = flips.measure(tiny_model, swaps=4, clients=4, tokens=12, seconds=0.1, threads=None)
    assert figures["mixed"] == figures["answers"] > 0
