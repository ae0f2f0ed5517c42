"""The module for multi-token prediction, against transformers' own; and what is wrong with one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from burnish.kernels import mtp
from burnish.kernels.cpu import packed_file
from burnish.kernels.folder import ModelError
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.modeling_layers import MtpModel

from tests.conftest import missing
from tests.mtp_models import DEPTH, FAMILIES, HIDDEN, PREFIX, build_mtp_model, change, drop_module

SLOTS = 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder for packed weights, empty."""
    monkeypatch.setattr(packed_file, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return build_mtp_model(tmp_path / "model", request.param)


def run(
    model: LoadedModel, tokens: list[int], pieces: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states of the model, the module's tokens and its hidden states, position by position; the
    tokens in pieces of these sizes."""
    module, table = model.mtp, np.arange(SLOTS)[None]
    assert module is not None
    pages, of_module = model.new_pages(SLOTS), module.new_pages(SLOTS)
    told = torch.empty(len(tokens), HIDDEN)
    model.step(_batch(tokens, 0, []), table, pages, hidden=told)
    best, after, at = [], [], 0
    for size in pieces:
        batch = _batch(tokens[at + 1 : at + 1 + size], at, range(size))
        logits, drawn, deeper = module.step(
            batch, told[at : at + size], table, of_module, _greedy(size, model), True
        )
        assert deeper is not None
        after.append(deeper)
        if logits is None:
            assert isinstance(drawn, SamplerOutput)
            best.append(torch.from_numpy(drawn.tokens[0].copy()))
        else:
            best.append(logits.argmax(-1))
        at += size
    return told, torch.cat(best), torch.cat(after)


def _batch(tokens: list[int], start: int, keep) -> ForwardBatch:
    arrays = ([0], [start], [len(tokens)], [0], list(keep))
    return ForwardBatch(np.array(tokens), *(np.array(a, np.int64) for a in arrays))


def _greedy(rows: int, model: LoadedModel) -> SamplingMetadata:
    from burnish.kernels.forward_batch import SAMPLING_DTYPE

    how = np.zeros(rows, SAMPLING_DTYPE)
    how["top_p"] = 1
    ones, vocab = np.ones(rows, np.int64), model.config.vocab_size
    return SamplingMetadata(
        how, ~ones.astype(bool), ones.astype(np.uint64), ones, np.zeros(vocab, bool), ~ones.astype(bool)
    )  # fmt: skip


def theirs(folder: Path, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same by transformers, which knows where the module lies in the released checkpoints alone."""
    main = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if getattr(main.config, "mlp_layer_types", None):
        main.config.mtp_mlp_layer_types = ["sparse"]
    main.config.num_mtp_layers = 1
    module = MtpModel(main, 1).eval()
    rename = {"shared_head.norm": "post_norm"}
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if not name.startswith(PREFIX) or "shared_head.head" in name or "embed" in name:
            continue
        stem = name.removeprefix(PREFIX)
        own = stem.split(".")[0] in ("enorm", "hnorm", "eh_proj", "shared_head")
        stem = stem.replace("shared_head.norm", rename["shared_head.norm"])
        state["layers.0." + ("" if own else "mtp_block.") + stem] = tensor
    lacking, unknown = module.load_state_dict(_stacked(state), strict=False)
    assert not unknown
    assert all(name.startswith(("embed_tokens", "shared_head")) for name in lacking)
    ids = torch.tensor([tokens])
    with torch.inference_mode():
        told = main.model(ids).last_hidden_state
        after = module.forward_layer(
            0, told[:, :-1], torch.arange(1, ids.shape[1])[None], None, input_ids=ids[:, 1:]
        )
        return told[0], main.lm_head(after)[0].argmax(-1), after[0]


def _stacked(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Experts as transformers holds them: all in one tensor, gates over ups."""
    stacked = {name: tensor for name, tensor in state.items() if ".experts." not in name}
    experts = "layers.0.mtp_block.mlp.experts."
    count = sum(name.startswith(experts) and "down_proj" in name for name in state)

    def stack(kind: str) -> torch.Tensor:
        return torch.stack([state[f"{experts}{n}.{kind}.weight"] for n in range(count)])

    gate_up = torch.cat([stack("gate_proj"), stack("up_proj")], dim=1)
    return {
        **stacked, f"{experts}gate_up_proj": gate_up, f"{experts}down_proj": stack("down_proj"),
    }  # fmt: skip


@pytest.mark.parametrize("native", [True, False])
def test_it_predicts_what_transformers_module_predicts(folder: Path, native: bool) -> None:
    """Whether it was packed now or at an earlier start, and however its tokens are cut."""
    tokens = torch.randint(3, 300, (21,), generator=torch.Generator().manual_seed(3)).tolist()
    expected = theirs(folder, tokens)
    for pieces in ([20], [7, 1, 12]):
        model = load_model(folder, native=native)
        if native and model.native is None:
            missing("a C++ compiler")
        hidden, best, after = run(model, tokens, pieces)
        torch.testing.assert_close(hidden, expected[0], atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(after, expected[2], atol=2e-4, rtol=1e-3)
        assert best.tolist() == expected[1].tolist()


def test_a_checkpoint_without_one_is_loaded_as_before(folder: Path) -> None:
    assert load_model(folder).mtp is not None
    drop_module(folder)
    assert load_model(folder).mtp is None


@pytest.mark.parametrize(
    "name",
    ["eh_proj.weight", "hnorm.weight", "shared_head.norm.weight", "self_attn.o_proj.weight"],
)
def test_what_it_lacks_is_named(folder: Path, name: str) -> None:
    change(folder, {PREFIX + name: None})
    assert refused(folder) == f"{folder} lacks the weights {PREFIX}{name}"


def test_a_weight_of_another_shape_or_no_number_is_named(folder: Path) -> None:
    change(folder, {f"{PREFIX}eh_proj.weight": torch.zeros(HIDDEN, HIDDEN)})
    assert f"{PREFIX}eh_proj.weight has shape (64, 64), the architecture wants" in refused(folder)
    change(folder, {f"{PREFIX}eh_proj.weight": torch.full((HIDDEN, 2 * HIDDEN), torch.nan)})
    assert f"{PREFIX}eh_proj.weight holds numbers that are not finite" in refused(folder)


def test_the_module_is_counted_in_the_cache(folder: Path) -> None:
    having = load_model(folder).cache_bytes(SLOTS)
    drop_module(folder)
    without = load_model(folder).cache_bytes(SLOTS)
    assert having * DEPTH == without * (DEPTH + 1)


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_config_of_one_layer_leaves_the_models_config_alone(folder: Path) -> None:
    config = load_model(folder).config
    alone = mtp.config_of(config)
    assert (config.num_hidden_layers, alone.num_hidden_layers) == (DEPTH, 1)
    assert config.vocab_size > alone.vocab_size
