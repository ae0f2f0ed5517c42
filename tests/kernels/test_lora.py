"""Adapters: peft's files read and written, slots mixed in a batch, and gradients."""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import (
    AdapterError,
    AdapterWeights,
    LoraSpec,
    check_fits,
    default_targets,
    init_adapter,
    load_adapter,
    save_adapter,
)
from burnish.kernels.model import LoadedModel
from transformers import AutoModelForCausalLM

from tests.tiny_model import build_tiny_model


@pytest.fixture(params=["reference", "native"])
def model(request: pytest.FixtureRequest, tiny_model: Path) -> LoadedModel:
    native = request.param == "native"
    if native:
        request.getfixturevalue("native_library")
    return load_model(tiny_model, native=native)


def random_adapter(model: LoadedModel, seed: int, rank: int = 4) -> AdapterWeights:
    """An adapter that changes logits a lot: B random too."""
    spec = LoraSpec(rank, 2 * rank, default_targets(model.model))
    generator = torch.Generator().manual_seed(seed)
    fresh = init_adapter(model.model, spec, seed)
    tensors = {
        name: torch.randn(t.shape, generator=generator) * 0.1 for name, t in fresh.tensors.items()
    }
    return AdapterWeights(spec, tensors)


def tokens_like(*shape: int) -> torch.Tensor:
    return torch.randint(3, 300, shape, generator=torch.Generator().manual_seed(2))


def step_logits(model: LoadedModel, tokens: torch.Tensor, slots: list[int]) -> torch.Tensor:
    """Logits [B, T, V] of one step over tokens [B, T], each row with a slot of its own."""
    rows, length = tokens.shape
    table = np.arange(rows * 16).reshape(rows, 16)
    batch = ForwardBatch(
        tokens=tokens.flatten().numpy(),
        rows=np.arange(rows),
        starts=np.zeros(rows, np.int64),
        counts=np.full(rows, length),
        slots=np.array(slots),
        keep=np.arange(tokens.numel()),
    )
    logits, _ = model.step(batch, table, model.new_pages(table.size))
    assert logits is not None
    return logits.view(rows, length, -1)


@pytest.mark.parametrize("family", ["qwen3_moe", "olmoe", "llama", "deepseek_v3"])
def test_peft_loads_what_we_save(tmp_path: Path, family: str) -> None:
    path = build_tiny_model(tmp_path / "model", family)
    model = load_model(path)
    adapter = random_adapter(model, seed=3)
    save_adapter(adapter, tmp_path / "adapter", str(path))
    model.set_adapter(1, load_adapter(tmp_path / "adapter"))

    base = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    tokens = tokens_like(2, 12)
    with torch.no_grad():
        ours = model.forward(tokens, slot=1)
    assert (ours - model.forward(tokens)).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs(tokens).logits, atol=1e-4, rtol=0)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(ours, merged(tokens).logits, atol=1e-4, rtol=0)


def test_a_float32_adapter_trains_under_a_bfloat16_model(tiny_model: Path) -> None:
    model = load_model(tiny_model, dtype="bfloat16", native=False)
    live = random_adapter(model, seed=3).trainable()
    model.set_adapter(1, live)
    model.forward(tokens_like(1, 6), slot=1).float().logsumexp(-1).sum().backward()
    for tensor in live.tensors.values():
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32


def test_we_load_what_peft_saves(tmp_path: Path, tiny_model: Path, model: LoadedModel) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(base, config).eval()
    theirs.save_pretrained(str(tmp_path))
    model.set_adapter(1, load_adapter(tmp_path))
    tokens = tokens_like(2, 12)
    torch.testing.assert_close(
        model.forward(tokens, slot=1), theirs(tokens).logits, atol=1e-4, rtol=0
    )


def test_an_adapter_survives_its_file(tmp_path: Path, model: LoadedModel) -> None:
    adapter = random_adapter(model, seed=4)
    again = load_adapter(save_adapter(adapter, tmp_path, "base"))
    assert set(again.spec.targets) == set(adapter.spec.targets)
    assert all(torch.equal(t, adapter.tensors[n]) for n, t in again.tensors.items())


def test_a_fresh_adapter_changes_nothing(model: LoadedModel) -> None:
    model.set_adapter(1, init_adapter(model.model, LoraSpec(), seed=0))
    tokens = tokens_like(1, 8)
    torch.testing.assert_close(model.forward(tokens, slot=1), model.forward(tokens))


def test_mixed_slots_equal_each_slot_alone(model: LoadedModel) -> None:
    for slot, rank in ((1, 4), (2, 8), (5, 2)):
        model.set_adapter(slot, random_adapter(model, seed=slot, rank=rank))
    tokens = tokens_like(4, 10)
    slots = [2, 0, 5, 1]
    mixed = step_logits(model, tokens, slots)
    for row, slot in enumerate(slots):
        # With gradients, so on the reference.
        alone = model.forward(tokens[row : row + 1], slot=slot)[0]
        torch.testing.assert_close(mixed[row], alone, atol=1e-4, rtol=0)


def test_adapters_of_different_targets_share_a_batch(model: LoadedModel) -> None:
    narrow = init_adapter(model.model, LoraSpec(4, 8.0, ("q_proj",)), seed=1)
    narrow = AdapterWeights(narrow.spec, {n: t + 0.1 for n, t in narrow.tensors.items()})
    model.set_adapter(1, narrow)
    model.set_adapter(2, random_adapter(model, seed=2))
    tokens = tokens_like(2, 10)
    mixed = step_logits(model, tokens, [1, 2])
    for row, slot in enumerate((1, 2)):
        alone = model.forward(tokens[row : row + 1], slot=slot)[0]
        torch.testing.assert_close(mixed[row], alone, atol=1e-4, rtol=0)


def test_training_moves_the_live_slot_and_no_other(model: LoadedModel) -> None:
    frozen = random_adapter(model, seed=1)
    live = random_adapter(model, seed=2).trainable()
    model.set_adapter(1, frozen)
    model.set_adapter(2, live)
    tokens = tokens_like(3, 12)
    before = model.forward(tokens, slot=1)
    logits = model.forward(tokens, slot=2)
    loss = -logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None]).mean()
    loss.backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in live.tensors.values())
    with torch.no_grad():
        for tensor in live.tensors.values():
            tensor -= 0.5 * tensor.grad  # type: ignore[operator]
    assert not torch.equal(model.forward(tokens, slot=2), logits)
    torch.testing.assert_close(model.forward(tokens, slot=1), before)
    with torch.no_grad():  # steps without gradients see the trained tensors too
        served = model.forward(tokens, slot=2)
    torch.testing.assert_close(served, model.forward(tokens, slot=2), atol=1e-4, rtol=0)


def test_gradients_equal_pefts(tmp_path: Path, tiny_model: Path, model: LoadedModel) -> None:
    adapter = random_adapter(model, seed=6)
    save_adapter(adapter, tmp_path, str(tiny_model))
    live = adapter.trainable()
    model.set_adapter(1, live)
    base = AutoModelForCausalLM.from_pretrained(
        tiny_model, attn_implementation="eager", experts_implementation="eager"
    )
    theirs = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    tokens = tokens_like(2, 12)
    for logits in (model.forward(tokens, slot=1), theirs(tokens).logits):
        logits.log_softmax(-1)[..., 7].mean().backward()
    gradients = {
        name.replace(".default", ""): parameter.grad
        for name, parameter in theirs.named_parameters()
        if parameter.requires_grad
    }
    assert gradients.keys() == live.tensors.keys()
    for name, tensor in live.tensors.items():
        torch.testing.assert_close(tensor.grad, gradients[name], atol=1e-4, rtol=1e-3)


def test_clearing_a_slot_gives_the_base_back(model: LoadedModel) -> None:
    tokens = tokens_like(1, 8)
    base = model.forward(tokens)
    model.set_adapter(1, random_adapter(model, seed=1))
    model.set_adapter(1, None)
    torch.testing.assert_close(model.forward(tokens, slot=1), base)


def test_what_does_not_fit_is_refused(tmp_path: Path, model: LoadedModel) -> None:
    adapter = random_adapter(model, seed=1)
    name = next(iter(adapter.tensors))
    lacking = {n: t for n, t in adapter.tensors.items() if n != name}
    with pytest.raises(AdapterError, match="lacks"):
        check_fits(model.model, AdapterWeights(adapter.spec, lacking))
    stray = {**adapter.tensors, "stray.lora_A.weight": torch.zeros(1)}
    with pytest.raises(AdapterError, match="no place for stray"):
        check_fits(model.model, AdapterWeights(adapter.spec, stray))
    wrong = {**adapter.tensors, name: torch.zeros(3, 3)}
    with pytest.raises(AdapterError, match="shape"):
        check_fits(model.model, AdapterWeights(adapter.spec, wrong))
    with pytest.raises(AdapterError, match=str(tmp_path)):
        load_adapter(tmp_path)
