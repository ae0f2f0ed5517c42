"""The same weights through transformers' eager fp32 model and through ours give the same logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from burnish.kernels.folder import ModelError
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from transformers import AutoModelForCausalLM

from tests.tiny_model import build_tiny_model

FAMILIES = ["qwen3_moe", "mixtral", "olmoe", "llama", "qwen3"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("families") / request.param, request.param)


@pytest.fixture(scope="module", params=["reference", "native"])
def ours(request: pytest.FixtureRequest, family: Path) -> LoadedModel:
    native = request.param == "native"
    if native:
        request.getfixturevalue("native_library")
    model = load_model(family, native=native)
    assert (model.native is not None) == native
    return model


@pytest.fixture(scope="module")
def reference(family: Path):
    return AutoModelForCausalLM.from_pretrained(
        family, dtype="float32", attn_implementation="eager", experts_implementation="eager"
    ).eval()


def random_tokens(*shape: int) -> torch.Tensor:
    return torch.randint(3, 300, shape, generator=torch.Generator().manual_seed(1))


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def test_full_forward_equals_eager(ours: LoadedModel, reference) -> None:
    tokens = random_tokens(3, 40)
    with torch.no_grad():
        close(ours.forward(tokens), reference(tokens).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(ours: LoadedModel, side: str) -> None:
    tokens = random_tokens(2, 20)
    mask = torch.ones(2, 20, dtype=torch.bool)
    real = slice(7, None) if side == "left" else slice(None, 13)
    mask[0] = False
    mask[0, real] = True
    padded = ours.forward(tokens, mask)
    close(padded[0, real], ours.forward(tokens[:1, real])[0])
    close(padded[1], ours.forward(tokens[1:])[0])


def run_paged(model: LoadedModel, sequences: list[torch.Tensor], prompt: int) -> list[torch.Tensor]:
    """Prefill `prompt` tokens of every sequence in two chunks, then decode; logits per position."""
    block, room, rows = 16, 4, len(sequences)
    pages = model.new_pages(block * room * rows)
    # Blocks of the sequences interleave, so that a mistake in the table would show.
    blocks = np.arange(room) * rows + np.arange(rows)[:, None]
    table = (blocks[..., None] * block + np.arange(block)).reshape(rows, -1)
    out: list[list[torch.Tensor]] = [[] for _ in sequences]

    def run(spans: list[tuple[int, int]]) -> None:
        """Feed positions start..end of every sequence."""
        starts = np.array([start for start, _ in spans])
        counts = np.array([end - start for start, end in spans])
        pieces = [seq[start:end] for seq, (start, end) in zip(sequences, spans, strict=True)]
        batch = ForwardBatch(
            tokens=torch.cat(pieces).numpy(),
            rows=np.arange(rows),
            starts=starts,
            counts=counts,
            slots=np.zeros(rows, np.int64),
            keep=np.arange(counts.sum()),
        )
        logits, output = model.step(batch, table, pages)
        assert logits is not None
        assert output is None
        for part, piece in zip(out, logits.split(counts.tolist()), strict=True):
            part.append(piece)

    half = prompt // 2
    run([(0, half + row) for row in range(rows)])
    run([(half + row, prompt) for row in range(rows)])
    for at in range(prompt, len(sequences[0])):
        run([(at, at + 1)] * rows)
    return [torch.cat(part) for part in out]


def test_paged_prefill_and_decode_equal_full_forward(ours: LoadedModel) -> None:
    tokens = random_tokens(3, 30)
    paged = run_paged(ours, list(tokens), prompt=19)
    close(torch.stack(paged), ours.forward(tokens))


def test_sliding_window(tmp_path: Path) -> None:
    path = build_tiny_model(tmp_path, "mixtral", sliding_window=8)
    reference = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager").eval()
    model, tokens = load_model(path), random_tokens(2, 30)
    expected = reference(tokens).logits
    close(model.forward(tokens), expected)
    close(torch.stack(run_paged(model, list(tokens), prompt=19)), expected)


@pytest.mark.parametrize("spoil", ["nothing there", "no weights", "unknown architecture"])
def test_a_bad_folder_is_one_clear_error(tmp_path: Path, tiny_model: Path, spoil: str) -> None:
    if spoil != "nothing there":
        (tmp_path / "config.json").write_text('{"model_type": "unheard_of"}')
    if spoil == "unknown architecture":
        (tmp_path / "model.safetensors").write_bytes(
            (tiny_model / "model.safetensors").read_bytes()
        )
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model(tmp_path)
