"""A loaded model computes each kind of work the way that was chosen for it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from burnish.kernels.choice import WORKS, Shape, Times, Way, Work
from burnish.kernels.cpu.step import NativePages
from burnish.kernels.loading import load_model
from burnish.kernels.lora import LoraSpec, default_targets, init_adapter

from tests.tiny_model import build_tiny_model

SEQUENCES, STARTS = [[5, 9, 31, 2, 70, 8], [3, 3, 12]], [1, 1]
FASTER, SLOWER = Times(1.0, 2.0), Times(2.0, 1.0)


@pytest.fixture(autouse=True)
def cache(native_library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and nothing forced. The library is loaded from the usual one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BURNISH_CPU")
    return tmp_path / "burnish"


def slower(*works: Work) -> Callable[[Shape], dict[Work, Times]]:
    """A timer that finds the library slower at this work."""
    return lambda shape: {work: SLOWER if work in works else FASTER for work in WORKS}


def never(shape: Shape) -> dict[Work, Times]:
    raise AssertionError("nothing is to be timed")


@pytest.mark.parametrize("start", ["first", "later"])
@pytest.mark.parametrize("work", WORKS)
def test_only_the_work_that_pytorch_does_faster_is_left_to_it(
    work: Work, start: str, tiny_model: Path
) -> None:
    model = load_model(tiny_model, timer=slower(work))
    if start == "later":
        model = load_model(tiny_model, timer=never)

    assert model.choice is not None
    assert [w for w in WORKS if not model.choice.native(w)] == [work]
    assert (model.native is None) == (work == "steps")
    assert isinstance(model.new_pages(32), NativePages) == (work != "steps")
    assert (model.training is None) == (work == "training")
    reference = load_model(tiny_model, native=False).read(SEQUENCES, STARTS)
    assert torch.equal(model.read(SEQUENCES, STARTS), reference) == (work == "sequences")


def test_where_pytorch_does_all_faster_nothing_is_packed(tiny_model: Path, cache: Path) -> None:
    for timer in (slower(*WORKS), never):
        model = load_model(tiny_model, timer=timer)
        assert model.native is None
        assert model.training is None
    assert not list(cache.glob("*.packed"))


def test_every_way_of_training_finds_the_same_gradients(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    ways: tuple[tuple[Work, ...], ...] = ((), ("training",), ("steps",), WORKS)
    for number, works in enumerate(ways):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))
        model = load_model(tiny_model, timer=slower(*works))
        weights = init_adapter(model.model, LoraSpec(4, 8.0, default_targets(model.model)), seed=1)
        live = weights.trainable()
        model.set_adapter(1, live)
        model.read(SEQUENCES, STARTS, slot=1).square().mean().backward()
        found.append([t.grad for n, t in sorted(live.tensors.items()) if "lora_B" in n])
    for grads in found[1:]:
        torch.testing.assert_close(grads, found[0], atol=1e-4, rtol=1e-3)


def test_a_format_that_was_asked_for_is_had_from_the_library_untimed(tiny_model: Path) -> None:
    model = load_model(tiny_model, weights="int8", timer=never)
    assert model.choice is not None
    assert model.native is not None
    assert "int8 on request" in model.choice.ways["steps"].why
    assert model.choice.ways["training"] == Way(False, "weights are int8")


def test_a_model_that_the_library_does_not_cover_says_so(tmp_path: Path) -> None:
    model = load_model(build_tiny_model(tmp_path / "model", "qwen3_next"), timer=never)
    assert model.choice is not None
    assert "no native step for qwen3_next" in model.choice.ways["steps"].why
    assert not model.choice.any_native
