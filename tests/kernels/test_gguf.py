"""Models read from GGUF files are those that were written into them."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from burnish.kernels.cpu import packed_file
from burnish.kernels.folder import open_folder
from burnish.kernels.gguf_file import GgufTensor
from burnish.kernels.loading import load_model
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.verify import verify
from gguf import GGMLQuantizationType as GgmlType
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.integrations.gguf.dequant import GGML_NAME, dequantize
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.kernels.random_models import adapter_of
from tests.tiny_gguf import TinyGguf

FAMILIES = ["llama", "mixtral", "qwen2", "qwen3", "qwen3_moe", "olmoe"]
KINDS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
SEQUENCES = [[5, 9, 31, 2, 70, 8, 8, 100, 17], [3, 3, 12]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for packed weights, empty."""
    monkeypatch.setattr(packed_file, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((family, "Q8_0") for family in FAMILIES),
        *(("llama", kind) for kind in KINDS if kind != "Q8_0"),
    ],
)
def test_it_computes_what_its_dequantised_weights_compute(
    family: str, kind: str, tmp_path: Path
) -> None:
    tiny = TinyGguf(tmp_path, family, kind)
    ours = load_model(tiny.write(), dtype="float32")
    expected = load_model(tiny.folder, dtype="float32")

    assert torch.equal(ours.read(SEQUENCES, [1, 1]), expected.read(SEQUENCES, [1, 1]))
    assert ours.config.to_dict().get("quantization_config") is None
    for model in (ours, expected):
        model.set_adapter(1, adapter_of(expected, rank=4, seed=2))
    assert torch.equal(ours.read(SEQUENCES, [1, 1], 1), expected.read(SEQUENCES, [1, 1], 1))
    assert torch.equal(
        ours.forward(torch.tensor(SEQUENCES[:1])), expected.forward(torch.tensor(SEQUENCES[:1]))
    )


def test_adapters_are_trained_on_the_dequantised_weights(tmp_path: Path) -> None:
    """On weights mapped from the cache, as the learner's process finds them."""
    tiny = TinyGguf(tmp_path)
    load_model(tiny.write(), dtype="float32")
    gradients = []
    for model in (load_model(path, dtype="float32") for path in (tiny.file, tiny.folder)):
        fixed = adapter_of(model, rank=4, seed=2)
        live = {name: t.clone().requires_grad_() for name, t in fixed.tensors.items()}
        model.set_adapter(1, AdapterWeights(fixed.spec, live))
        model.read(SEQUENCES, [1, 1], 1).log_softmax(-1)[:, 7].sum().backward()
        gradients.append({name: t.grad for name, t in live.items()})
    ours, expected = gradients
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_verify_takes_a_file(family: str, tmp_path: Path) -> None:
    findings = list(verify(TinyGguf(tmp_path, family).write(), rows=2, length=32))
    assert all(finding.passed for finding in findings), findings


def test_tokenizer_chat_template_and_ends_come_from_the_file(tmp_path: Path) -> None:
    tiny = TinyGguf(tmp_path)
    found, expected = (
        open_folder(tiny.write()).tokenizer,
        AutoTokenizer.from_pretrained(tiny.folder),
    )
    for text in ("hello  42 worlds", "<|im_start|>user\n<think>né 🙂</think><|im_end|>", "a\n\n b"):
        ids = expected.encode(text)
        assert found.encode(text) == ids
        assert found.decode(ids) == text
    assert found.chat_template == expected.chat_template
    assert (found.eos_token, found.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert open_folder(tiny.file).end_token_ids == {0, 2}  # both texts end answers in llama.cpp


def test_digits_stand_alone_where_the_vocabulary_was_learnt_so(tmp_path: Path) -> None:
    tiny = TinyGguf(tmp_path)
    tiny.writer.kv_data[0]["tokenizer.ggml.pre"].value = "smollm"
    cut = open_folder(tiny.write()).tokenizer.backend_tokenizer.pre_tokenizer
    assert [text for text, _ in cut.pre_tokenize_str("a  42")] == ["a", "ĠĠ", "4", "2"]


def test_a_folder_with_a_single_file_is_that_file(tmp_path: Path) -> None:
    file = TinyGguf(tmp_path).write()
    opened, named = open_folder(tmp_path), open_folder(file)
    assert (opened.path, opened.sha256) == (file, named.sha256)


def test_a_later_start_dequantises_nothing(
    tmp_path: Path, native_library: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = TinyGguf(tmp_path, "qwen3_moe", "Q4_0").write()
    first = load_model(file).read(SEQUENCES, [1, 1])
    monkeypatch.setattr(GgufTensor, "read", lambda self: pytest.fail("read again"))
    assert torch.equal(load_model(file).read(SEQUENCES, [1, 1]), first)


@pytest.mark.parametrize(
    ("kind", "form"), [("Q8_0", "bfloat16"), ("BF16", "bfloat16"), ("F16", "float32")]
)
def test_quantised_weights_are_served_in_bfloat16_and_others_without_loss(
    kind: str, form: str, tmp_path: Path, native_library: object
) -> None:
    model = load_model(TinyGguf(tmp_path, "llama", kind).write())
    assert model.native is not None
    assert model.native.format == form


def test_rotary_scaling_comes_from_the_file(tmp_path: Path) -> None:
    """Llama 3's factors, and yarn's settings, give transformers the frequencies they came from."""
    config = TinyGguf(tmp_path / "a").config
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    plain = 500_000.0 ** -(torch.arange(0, config.head_dim, 2) / config.head_dim)
    llama3 = TinyGguf(tmp_path / "b")
    llama3.writer.kv_data[0]["llama.rope.freq_base"].value = 500_000.0
    llama3.writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())
    assert open_folder(llama3.write()).config.rope_parameters == config.rope_parameters

    yarn = TinyGguf(tmp_path / "c", "qwen3")
    yarn.writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    yarn.writer.add_rope_scaling_factor(4.0)
    yarn.writer.add_rope_scaling_orig_ctx_len(128)
    found = open_folder(yarn.write()).config.rope_parameters
    assert (found["rope_type"], found["factor"]) == ("yarn", 4.0)
    assert found["original_max_position_embeddings"] == 128


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(GGML_NAME)), data=st.data())
def test_blocks_are_what_a_second_library_makes_of_them(kind: int, data: st.DataObject) -> None:
    numbers, size = gguf.GGML_QUANT_SIZES[GgmlType(kind)]
    raw = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), np.uint8)[None]
    with np.errstate(all="ignore"):
        read = GgufTensor((1, numbers), GgmlType(kind), raw).read()
    expected = dequantize(torch.from_numpy(raw.copy()), kind)
    finite = expected.isfinite() & read.flatten().isfinite()
    torch.testing.assert_close(read.flatten()[finite].float(), expected[finite], rtol=2**-8, atol=0)


READ = """
import sys
from pathlib import Path
from burnish.kernels.folder import open_folder
print(open_folder(Path(sys.argv[1])).parameters)
print(*{"torch._dynamo", "transformers.modeling_utils"} & sys.modules.keys())
"""


@pytest.mark.parametrize("form", ["folder", "file"])
def test_what_is_not_a_weight_is_read_without_model_classes(form: str, tmp_path: Path) -> None:
    """In a process of its own, since here they are imported; they take 160 MB where a model is served."""
    tiny = TinyGguf(tmp_path)
    tiny.write()
    command = [sys.executable, "-c", READ, str(getattr(tiny, form))]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert int(told[0]) > 0
    assert told[1].split() == []
