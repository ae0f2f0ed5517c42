"""`burnish kernels`: every op is near its reference, and one that is not is named."""

from pathlib import Path

import pytest
from burnish.kernels import backends as module
from burnish.kernels.choice import Choice, Times, Way
from burnish.kernels.cpu import library as native
from burnish.kernels.formats import Weights
from burnish.ops.commands import kernels as report
from rich.console import Console

OPS = {
    "paged attention",
    "latent attention",
    "norm + rope",
    "grouped experts",
    "LoRA, attention and experts",
    "whole decoder step",
    "sampling",
}


@pytest.fixture
def console() -> Console:
    return Console(width=200, record=True)


def test_every_op_is_near_its_reference(console: Console) -> None:
    assert report.run(console) == 0
    shown = console.export_text()
    assert all(op in shown for op in OPS)
    assert "NOT OK" not in shown
    assert ("native library" in shown) == (native.library() is not None)
    taken = any(
        "CUDA kernels:" in line for line in shown.splitlines() if line.strip().startswith("LoRA")
    )
    assert taken == (module.cuda_kernels() is not None)


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_a_format_is_measured_too(
    weights: Weights, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cuda_kernels", lambda: None)
    cases = list(module._cases())[-1:]
    monkeypatch.setattr(module, "_cases", lambda: cases)
    assert report.run(console, weights=weights) == 0
    (line,) = [line for line in console.export_text().splitlines() if f"in {weights}" in line]
    assert "NOT OK" not in line


def test_an_op_that_is_off_is_named(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cuda_kernels", lambda: None)
    cases = [case for case in module._cases() if case[0].startswith("LoRA")]
    monkeypatch.setattr(module, "_cases", lambda: cases)
    monkeypatch.setattr(module, "_merge", lambda *_: None)  # the truth lacks the adapter
    assert report.run(console) == 1
    shown = console.export_text()
    assert "NOT OK" in next(line for line in shown.splitlines() if "LoRA" in line)


def test_without_a_compiler_the_reference_is_what_serves(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(module, "cuda_kernels", lambda: None)
    found = list(module.backends())
    assert {backend.name.partition(":")[0] for backend in found} == {"PyTorch"}
    assert all(backend.passed for backend in found)
    assert report.sampling().name == "PyTorch"


def test_a_models_ways_are_shown_with_the_times_that_chose_them(console: Console) -> None:
    choice = Choice(
        {
            "steps": Way.of(Times(12.5, 50.0)),
            "sequences": Way.of(None),
            "training": Way.of(Times(30.0, 20.0)),
        },
        "2026-03-04T05:06:07+00:00",
        Path("/cache/choice-1.json"),
    )
    report.print_choice(console, Path("/models/one"), choice)
    shown = console.export_text()
    steps, sequences, training = (
        next(line for line in shown.splitlines() if line.strip().startswith(work)).split()
        for work in ("steps", "sequences", "training")
    )
    assert steps[1:5] == ["native", "library", "12.5", "50"]
    assert sequences[1:5] == ["native", "library", "not", "timed:"]
    assert training[1:4] == ["PyTorch", "30", "20"]
    assert "1.50 of PyTorch's time" in shown
    assert "timed 2026-03-04T05:06:07+00:00, kept in /cache/choice-1.json" in shown


def test_the_report_is_of_the_model_that_was_named(
    console: Console, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "backends", lambda **_: [])
    assert report.run(console, tiny_model) == 0
    shown = console.export_text()
    assert f"choice for {tiny_model}" in shown
    assert "training" in shown
