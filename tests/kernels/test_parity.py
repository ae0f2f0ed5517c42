"""The same weights through transformers' eager fp32 model and through ours give the same logits."""

from pathlib import Path

import pytest
import torch
from burnish.kernels.attention import PagedBatch, PagedGroup
from burnish.kernels.model import LoadedModel, ModelError, load_model
from transformers import AutoModelForCausalLM

from tests.tiny_model import build_tiny_model

FAMILIES = ["qwen3_moe", "mixtral", "olmoe", "llama", "qwen3"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("families") / request.param, request.param)


@pytest.fixture(scope="module")
def ours(family: Path) -> LoadedModel:
    return load_model(family)


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


def test_hidden_is_what_the_output_layer_reads(ours: LoadedModel, reference) -> None:
    tokens = random_tokens(2, 9)
    logits, hidden = ours.forward(tokens, hidden=True)
    assert hidden.shape == (2, 9, 64)
    close(ours.model.get_output_embeddings()(hidden), logits)


def run_paged(model: LoadedModel, sequences: list[torch.Tensor], prompt: int) -> list[torch.Tensor]:
    """Prefill `prompt` tokens of every sequence in two chunks, then decode; logits per position."""
    block, room = 4, 16
    pages = model.new_pages(block * room * len(sequences))
    # Blocks of the sequences interleave, so that a mistake in the table would show.
    tables = [torch.arange(room) * len(sequences) + row for row in range(len(sequences))]
    slots = [(t[:, None] * block + torch.arange(block)).flatten() for t in tables]
    out: list[list[torch.Tensor]] = [[] for _ in sequences]

    def run(lengths: list[tuple[int, int]]) -> None:
        """Feed positions start..end of every sequence."""
        widest = max(end - start for start, end in lengths)
        offsets = [0]
        for start, end in lengths:
            offsets.append(offsets[-1] + end - start)
        places = [torch.arange(s, e) for s, e in lengths]
        index = [torch.arange(widest).clamp_max(e - s - 1) for s, e in lengths]
        decode = widest == 1
        group = PagedGroup(
            start=0,
            positions=torch.stack([p[i] for p, i in zip(places, index, strict=True)]),
            read=torch.stack([s[: max(e for _, e in lengths)] for s in slots]),
            pack=None
            if decode
            else torch.stack([o + i for o, i in zip(offsets, index, strict=False)]),
            unpack=None
            if decode
            else torch.cat(
                [row * widest + torch.arange(e - s) for row, (s, e) in enumerate(lengths)]
            ),
        )
        logits = model.step(
            torch.cat([seq[p] for seq, p in zip(sequences, places, strict=True)]),
            torch.cat(places),
            PagedBatch(
                pages, torch.cat([s[p] for s, p in zip(slots, places, strict=True)]), (group,)
            ),
            torch.arange(offsets[-1]),
        )
        for row, part in enumerate(out):
            part.append(logits[offsets[row] : offsets[row + 1]])

    half = prompt // 2
    run([(0, half + row) for row in range(len(sequences))])
    run([(half + row, prompt) for row in range(len(sequences))])
    for at in range(prompt, len(sequences[0])):
        run([(at, at + 1)] * len(sequences))
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
