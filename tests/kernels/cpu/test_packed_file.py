"""Packed weights on disk: what a mapped model computes, what damages a file, and how many are kept."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from burnish.kernels import loading
from burnish.kernels.cpu import library as native
from burnish.kernels.cpu import packed_file
from burnish.kernels.cpu.layers import joined_adapters
from burnish.kernels.cpu.step import NativeStep
from burnish.kernels.model import DeferredModel, LoadedModel
from burnish.kernels.outline import build, describe

from tests.kernels.random_models import FAMILIES, NO_TOKENIZER, adapter_of, config_of
from tests.kernels.random_models import build as random_model
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
SEQUENCES = [[5, 9, 31, 2, 70, 8], [3, 3, 12]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packed_file, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mapped_model_computes_what_was_packed(family: str, tmp_path: Path) -> None:
    reference, packed = random_model(config_of(family, 64, (4, 2), 16), seed=1)
    assert packed.native is not None
    packed.native.save(tmp_path / "weights.packed")
    file = packed_file.read(tmp_path / "weights.packed")
    assert file is not None

    outline = build(file.header["outline"], packed.config)
    step = NativeStep.mapped(file, packed.config, outline)
    deferred = DeferredModel(
        config=packed.config,
        generation_config=None,
        outline=outline,
        dtype=step.dtype,
        device=packed.device,
        load=lambda: reference.model,
    )
    mapped = LoadedModel(deferred, NO_TOKENIZER, Path(), "")
    mapped.use(step)
    adapter = adapter_of(packed, rank=4, seed=2)
    for model in (packed, mapped):
        model.set_adapter(1, adapter)

    assert torch.equal(mapped.read(SEQUENCES, [1, 1]), packed.read(SEQUENCES, [1, 1]))
    with torch.no_grad():
        ours, theirs = (joined_adapters(model, adapter) for model in (outline, reference.model))
        assert all(
            torch.equal(one, other)
            for pair, their_pair in zip(ours, theirs, strict=True)
            for one, other in zip(pair, their_pair, strict=True)
        )


def test_the_transformers_model_comes_when_needed_with_the_resident_adapters(
    tiny_model: Path, cache: Path
) -> None:
    loading.load_model(tiny_model)
    mapped = loading.load_model(tiny_model)
    expected = loading.load_model(tiny_model, native=False)
    adapter = adapter_of(expected, rank=4, seed=3)
    for model in (mapped, expected):
        model.set_adapter(1, adapter)
    tokens = torch.tensor(SEQUENCES[:1])

    assert mapped.model.config.hidden_size == expected.config.hidden_size
    assert torch.equal(mapped.forward(tokens, slot=1), expected.forward(tokens, slot=1))


def test_training_keeps_no_transformers_model(tiny_model: Path, cache: Path) -> None:
    """At float32 it would be the largest thing in a learner's process."""
    loading.load_model(tiny_model)
    mapped = loading.load_model(tiny_model)
    packed = loading.load_model(tiny_model)
    _ = packed.model
    gradients = []
    for model in (mapped, packed):
        adapter = adapter_of(packed, rank=4, seed=3).trainable()
        assert model.reader is not None
        model.use(model.reader)
        model.set_adapter(1, adapter)
        model.read(SEQUENCES, [1, 1], slot=1).square().sum().backward()
        gradients.append([tensor.grad for tensor in adapter.tensors.values()])
    assert mapped._reference is None
    for ours, theirs in zip(*gradients, strict=True):
        assert ours is not None
        assert ours.any()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", ["qwen3_moe", "llama"])
def test_a_later_start_imports_no_model_classes(family: str, tmp_path: Path, cache: Path) -> None:
    """Nor torch's compiler, which the config of some families would bring: 100 MB."""
    folder = build_tiny_model(tmp_path, family)
    loading.load_model(folder)
    program = (
        "import sys; from pathlib import Path; from burnish.kernels import loading\n"
        "from burnish.kernels.cpu import packed_file\n"
        f"packed_file.cache_folder = lambda: Path({str(cache)!r})\n"
        f"loading.load_model({str(folder)!r})\n"
        "print('transformers.modeling_utils' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_file_cut_short_is_written_anew(tiny_model: Path, cache: Path, keep: int) -> None:
    expected = loading.load_model(tiny_model).read(SEQUENCES, [1, 1])
    (file,) = cache.glob("*.packed")
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])

    again = loading.load_model(tiny_model)

    assert torch.equal(again.read(SEQUENCES, [1, 1]), expected)
    assert file.read_bytes() == whole


def test_a_full_disk_costs_the_file_and_nothing_else(
    tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = packed_file.shutil.disk_usage(tiny_model)._replace(free=1000)
    monkeypatch.setattr(packed_file.shutil, "disk_usage", lambda _: usage)
    model = loading.load_model(tiny_model)
    assert np.isfinite(model.read(SEQUENCES, [1, 1]).numpy()).all()
    assert not [*cache.glob("*.packed")]


def test_the_files_used_last_are_kept(tmp_path: Path) -> None:
    tensor = torch.ones(3)
    for number in range(packed_file.KEPT_FILES + 2):
        packed_file.write(tmp_path / f"weights-{number}.packed", {}, {}, [tensor])
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == [f"weights-{n}.packed" for n in range(2, packed_file.KEPT_FILES + 2)]


def test_an_outline_names_what_a_model_has() -> None:
    reference, _ = random_model(config_of("qwen3_moe", 64, (4, 2), 16), seed=1)
    outline = build(describe(reference.model), reference.config)
    names = [name for name, _ in reference.model.named_modules()]
    assert [name for name, _ in outline.named_modules()] == names
