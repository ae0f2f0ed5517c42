"""Adapters with experts apart change the model as their experts say, whoever exported them."""

import json
from pathlib import Path

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import (
    AdapterError,
    AdapterWeights,
    LoraSpec,
    init_adapter,
    lora_targets,
    save_adapter,
)
from burnish.kernels.model import LoadedModel
from burnish.kernels.unfused import load_exported
from safetensors.torch import save_file
from torch import Tensor

from tests.tiny_model import build_tiny_model

RANK, ALPHA, EXPERTS, WIDTH, INNER = 4, 8.0, 4, 64, 48


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model, device="cpu", native=False)


def exported(folder: Path, model: LoadedModel, **config: object) -> tuple[Path, dict[str, Tensor]]:
    """A folder with attention, and every expert apart; its tensors."""
    attention = init_adapter(
        model.model, LoraSpec(RANK, ALPHA, ("q_proj", "k_proj", "v_proj", "o_proj")), seed=0
    )
    generator = torch.Generator().manual_seed(1)
    tensors = {n: torch.randn(t.shape, generator=generator) for n, t in attention.tensors.items()}
    shapes = {"gate": (WIDTH, INNER), "up": (WIDTH, INNER), "down": (INNER, WIDTH)}
    for layer in range(2):
        for expert in range(EXPERTS):
            for part, (inputs, outputs) in shapes.items():
                path = f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.{part}_proj"
                tensors[f"{path}.lora_A.weight"] = torch.randn(RANK, inputs, generator=generator)
                tensors[f"{path}.lora_B.weight"] = torch.randn(outputs, RANK, generator=generator)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps({**fields, **config}))
    return folder, tensors


def changes(model: LoadedModel, weights: AdapterWeights) -> dict[str, Tensor]:
    """What an adapter adds to each parameter, [(E,) out, in]."""
    added = {}
    for target in lora_targets(model.model, weights.spec.targets):
        a, b = (weights.tensors[f"{target.name}.lora_{x}.weight"] for x in "AB")
        a, b = target.unpack(a, b, weights.spec.rank)
        added[f"{target.name}/{target.parameter}"] = weights.spec.scale * b @ a
    return added


@pytest.mark.parametrize("rslora", [False, True])
def test_every_expert_is_changed_as_its_own_adapter_says(model, tmp_path, rslora):
    folder, tensors = exported(tmp_path / "a", model, use_rslora=rslora)
    added = changes(model, load_exported(folder, model.model))
    scale = ALPHA / (RANK**0.5 if rslora else RANK)

    def said(path: str) -> Tensor:
        return scale * tensors[f"{path}.lora_B.weight"] @ tensors[f"{path}.lora_A.weight"]

    for layer in range(2):
        path = f"base_model.model.model.layers.{layer}"
        query = added[f"{path}.self_attn.q_proj/None"]
        torch.testing.assert_close(query, said(f"{path}.self_attn.q_proj"))
        experts = f"{path}.mlp.experts"
        for expert in range(EXPERTS):
            gate, up, down = (said(f"{experts}.{expert}.{x}_proj") for x in ("gate", "up", "down"))
            got = added[f"{experts}.base_layer/gate_up_proj"][expert]
            torch.testing.assert_close(got, torch.cat([gate, up]))
            torch.testing.assert_close(added[f"{experts}/down_proj"][expert], down)


def test_the_model_computes_with_it(model, tmp_path):
    folder, _ = exported(tmp_path / "a", model)
    weights = load_exported(folder, model.model)
    sequence = [list(range(20, 40))]
    model.set_adapter(1, weights)
    with torch.no_grad():
        got = model.read(sequence, [1], slot=1)
        base = {name: p.clone() for name, p in model.model.named_parameters()}
        for name, change in changes(model, weights).items():
            path, _, parameter = name.removeprefix("base_model.model.").partition("/")
            place = path.removesuffix(".base_layer") + (
                ".weight" if parameter == "None" else f".{parameter}"
            )
            model.model.get_parameter(place).add_(change)
        want = model.read(sequence, [1])
        for name, parameter in model.model.named_parameters():
            parameter.copy_(base[name])
    model.set_adapter(1, None)
    assert (got - model.read(sequence, [1])).abs().max() > 0.1
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_without_experts_it_is_read_as_it_stands(tmp_path):
    model = load_model(build_tiny_model(tmp_path / "m", "llama"), device="cpu", native=False)
    targets = ("q_proj", "gate_proj", "up_proj", "down_proj")
    weights = init_adapter(model.model, LoraSpec(RANK, ALPHA, targets), seed=0)
    got = load_exported(save_adapter(weights, tmp_path / "a", "tiny"), model.model)
    assert got.spec == LoraSpec(RANK, ALPHA, tuple(sorted(targets)))
    assert all(torch.equal(got.tensors[name], tensor) for name, tensor in weights.tensors.items())


def test_an_adapter_with_an_expert_too_few_or_too_many_is_refused(model, tmp_path):
    folder, tensors = exported(tmp_path / "a", model)
    name = "base_model.model.model.layers.1.mlp.experts.2.up_proj.lora_B.weight"
    save_file({n: t for n, t in tensors.items() if n != name}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"lacks .*experts\.2\.up_proj\.lora_B"):
        load_exported(folder, model.model)
    more = {**tensors, name.replace("experts.2", "experts.9"): tensors[name].clone()}
    save_file(more, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"no place for .*experts\.9\.up_proj"):
        load_exported(folder, model.model)


def test_interleaved_experts_are_refused_by_name(tmp_path, model):
    folder, _ = exported(tmp_path / "a", model)
    path = build_tiny_model(tmp_path / "m", "gpt_oss")
    other = load_model(path, device="cpu", native=False)
    with pytest.raises(AdapterError, match=r"layers\.0\.mlp\.experts interleaves gate and up"):
        load_exported(folder, other.model)


def test_a_tensor_that_is_no_lora_tensor_is_named(model, tmp_path):
    folder, tensors = exported(tmp_path / "a", model)
    save_file({**tensors, "lm_head.weight": torch.zeros(1)}, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"lm_head\.weight is not the name of a LoRA tensor"):
        load_exported(folder, model.model)
