"""What is wrong with a model folder is one clear error, before anything is served."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from burnish.kernels import loading as module
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu import packed_file
from burnish.kernels.folder import ModelError
from burnish.kernels.formats import Weights
from burnish.kernels.loading import load_model
from safetensors.torch import load_file, save_file

from tests.conftest import missing

WEIGHTS = "model.safetensors"
NAME = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for packed weights, empty."""
    monkeypatch.setattr(packed_file, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path, cache: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path) -> str:
    with pytest.raises(ModelError, match=str(folder)) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewrite(folder: Path, **changed: torch.Tensor | None) -> None:
    tensors: dict[str, torch.Tensor | None] = {**load_file(folder / WEIGHTS), **changed}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("left", [0, 5, 200, -1])
def test_a_file_cut_short(folder: Path, left: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:left])
    assert "cut short" in refused(folder)


def test_a_file_that_is_something_else(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((12).to_bytes(8, "little") + b"not json at all, sorry")
    assert "no safetensors file" in refused(folder)


def test_a_weight_that_is_not_there(folder: Path) -> None:
    """transformers would draw it at random."""
    rewrite(folder, **{NAME: None})
    assert f"lacks the weights {NAME}" in refused(folder)


def test_a_weight_of_another_shape(folder: Path) -> None:
    rewrite(folder, **{NAME: torch.zeros(63, 64)})
    told = refused(folder)
    assert NAME in told
    assert "(63, 64)" in told
    assert "(64, 64)" in told


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number(folder: Path, value: float) -> None:
    tensor = load_file(folder / WEIGHTS)[NAME]
    tensor[3, 4] = value
    rewrite(folder, **{NAME: tensor})
    assert f"{NAME} holds numbers that are not finite" in refused(folder)


def test_a_shard_that_is_not_there(folder: Path) -> None:
    index = {"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002" in refused(folder)


def test_an_architecture_nobody_knows(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "unheard_of"}')
    assert "unheard_of" in refused(folder)


def test_too_little_memory_is_told_before_the_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 100_000)
    told = refused(folder)
    assert "GiB of memory" in told
    assert "are free" in told


def test_without_a_compiler_the_reference_serves_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    native.library.cache_clear()
    try:
        assert load_model(folder).native is None
        assert "no C++ compiler" in caplog.text
    finally:
        native.library.cache_clear()


def test_a_format_is_rounded_to_on_request_alone(folder: Path) -> None:
    if native.library() is None:
        missing("no native library: a C++ compiler is needed")
    lossless, small = load_model(folder), load_model(folder, weights="int4")
    assert (lossless.rounded, small.rounded) == (None, "int4")
    assert small.weights == "int4"
    mapped = load_model(folder, weights="int4")
    assert (mapped.rounded, mapped.weights) == ("int4", "int4")


def test_a_cache_is_kept_in_int8_on_request_alone(folder: Path) -> None:
    if native.library() is None:
        missing("no native library: a C++ compiler is needed")
    model, small = load_model(folder), load_model(folder, kv_cache="int8")
    assert (model.kv_cache, model.lossless) == ("float32", True)
    assert (small.kv_cache, small.lossless, small.rounded) == ("int8", False, None)
    assert small.cache_bytes(64) < model.cache_bytes(64) / 2


def test_the_format_of_the_file_is_no_rounding(folder: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert load_model(folder, weights="bfloat16").rounded is None


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_no_other_format_is_served_than_the_one_asked_for(
    folder: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor without a compiler, or with a family that has no native step."""
    monkeypatch.setattr(native, "library", lambda: None)
    with pytest.raises(ModelError, match=f"cannot be kept in {weights}: no C\\+\\+ compiler"):
        load_model(folder, weights=weights)
    assert load_model(folder).rounded is None
    with pytest.raises(ModelError, match=r"keys and values .* in int8: no C\+\+ compiler"):
        load_model(folder, kv_cache="int8")
