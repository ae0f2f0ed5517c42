"""What is wrong with a GGUF file is one clear sentence that names it."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from burnish.kernels.folder import ModelError, open_folder
from burnish.kernels.loading import load_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_gguf import TinyGguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyGguf(tmp_path_factory.mktemp("whole")).write()


def refused(file: Path, load: Callable[[Path], object] = open_folder) -> str:
    with pytest.raises(ModelError, match=str(file)) as error:
        load(file)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("left", [0, 3, 30, 2000, -5000, -1])
def test_a_file_cut_short(whole: Path, tmp_path: Path, left: int) -> None:
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole.read_bytes()[:left])
    told = refused(file)
    assert ("does not begin like a GGUF file" if 0 <= left < 4 else "cut short") in told


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_header_is_read_or_refused(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(whole.read_bytes())
    for at in data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=4)):
        raw[at] = data.draw(st.integers(0, 255))
    file = tmp_path / "damaged.gguf"
    file.write_bytes(raw)
    with suppress(ModelError):
        open_folder(file)


def changed(tmp_path: Path, metadata: dict[str, object]) -> Path:
    """A file with other metadata; None takes a key away."""
    tiny = TinyGguf(tmp_path)
    pairs = tiny.writer.kv_data[0]
    for key, value in metadata.items():
        if value is None:
            del pairs[key]
        else:
            pairs[key] = gguf.gguf_writer.GGUFValue(value, gguf.GGUFValueType.get_type(value))
    return tiny.write()


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"general.architecture": "mamba"}, "the architecture mamba are not read, only of llama,"),
        (
            {"split.count": 3},
            "one of 3 parts of a model: merge them with `llama-gguf-split --merge`",
        ),
        ({"llama.block_count": None}, "its setting block_count is None"),
        (
            {"llama.attention.head_count": 0},
            "its setting attention.head_count is 0, and a number",
        ),
        ({"tokenizer.ggml.bos_token_id": "x"}, "bos_token_id"),
        ({"llama.feed_forward_length": [64, 96]}, "its setting feed_forward_length is [64, 96]"),
        ({"llama.logit_scale": 0.5}, "its setting logit_scale = 0.5 is unknown here"),
        ({"llama.rope.dimension_count": 8}, "its setting rope.dimension_count = 8"),
        ({"llama.rope.scaling.type": "longrope"}, "scaled by longrope"),
        ({"tokenizer.ggml.tokens": None}, "it has no tokenizer"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "cuts text the way of unheard-of"),
        ({"tokenizer.ggml.model": "bert"}, "bert"),
        ({"tokenizer.ggml.eos_token_id": 100_000}, "index out of range"),
    ],
)
def test_what_a_file_says_and_is_not_known(
    tmp_path: Path, metadata: dict[str, object], said: str
) -> None:
    assert said in refused(changed(tmp_path, metadata))


def test_a_type_that_cannot_be_read(tmp_path: Path) -> None:
    tiny = TinyGguf(tmp_path)
    tiny.writer.add_tensor("numbers.weight", np.zeros((4, 4), np.int32))
    told = refused(tiny.write())
    assert "numbers.weight is of type I32, which cannot be read; take the model in Q8_0" in told


def test_a_tensor_without_a_place(tmp_path: Path) -> None:
    tiny = TinyGguf(tmp_path)
    tiny.writer.add_tensor("blk.0.attn_rot.weight", np.zeros((4, 4), np.float32))
    assert "its tensor blk.0.attn_rot.weight has no place in a model of type llama" in refused(
        tiny.write()
    )


@pytest.mark.parametrize("count", [8, 4])
def test_factors_of_another_rotary_embedding(tmp_path: Path, count: int) -> None:
    tiny = TinyGguf(tmp_path)
    tiny.writer.add_tensor("rope_freqs.weight", np.linspace(1, 9, count, dtype=np.float32))
    assert "its rope_freqs.weight are not those of Llama 3" in refused(tiny.write())


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "output_norm.weight"])
def test_a_tensor_that_is_not_there(tmp_path: Path, name: str) -> None:
    tiny = TinyGguf(tmp_path)
    del tiny.writer.tensors[0][name]
    assert "lacks the weights model." in refused(tiny.write(), load_model)


def test_two_files_and_none(whole: Path, tmp_path: Path) -> None:
    assert "no config.json and no GGUF file" in refused(tmp_path)
    for name in ("a.gguf", "b.gguf", "c.gguf"):
        shutil.copy(whole, tmp_path / name)
    assert "holds 3 GGUF files, a.gguf and b.gguf first: name one of them" in refused(tmp_path)
