"""Native training against autograd through the PyTorch model: the same logits, the same gradients."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from burnish.kernels.cpu.training import NativeTraining, training_unsupported_reason
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel

from tests.kernels.random_models import DENSE, FAMILIES, MLA, adapter_of, build, config_of

pytestmark = pytest.mark.usefixtures("native_library")

SLOT = 3
LENGTHS = ((5, 2), (33, 20), (1, 0), (17, 16), (48, 1))  # of a sequence, and its prompt


def config_for(family: str, **changes: Any):
    more: dict[str, Any] = {"intermediate_size": 48, "num_experts": 4, "num_experts_per_tok": 2}
    if family == "qwen3_moe":
        more |= {"moe_intermediate_size": 48, "norm_topk_prob": True}
    if family in ("mixtral", "gpt_oss"):
        more["num_local_experts"] = more.pop("num_experts")
    if family in ("glm4_moe", "deepseek_v3", "glm4_moe_lite"):
        more["n_routed_experts"] = more.pop("num_experts")
        more |= {"moe_intermediate_size": 16, "n_shared_experts": 2, "routed_scaling_factor": 1.5}
        more |= {"n_group": 1, "topk_group": 1, "attention_bias": True}
    if family == "glm4_moe":
        more |= {"first_k_dense_replace": 1, "use_qk_norm": True}
    if family in DENSE:
        more = {"intermediate_size": 48}
    if family in MLA:
        more |= {"q_lora_rank": 48, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 24}
    if family == "deepseek_v3":
        more["first_k_dense_replace"] = 1
    if family in ("mistral", "gpt_oss"):
        more["sliding_window"] = 7
    if family == "gpt_oss":
        more["swiglu_limit"] = 1.0  # so that some are clipped
    return config_of(family, 64, (4, 2), 16, **more | changes)


def by_torch(
    model: LoadedModel, sequences: list[list[int]], starts: list[int], weights: AdapterWeights
) -> torch.Tensor:
    model.set_adapter(SLOT, weights)
    rows = [
        model.forward(torch.tensor([sequence]), slot=SLOT)[0, start - 1 : -1]
        for sequence, start in zip(sequences, starts, strict=True)
    ]
    return torch.cat(rows)


GROUPED: dict[str, Any] = {"n_group": 2, "topk_group": 1, "norm_topk_prob": False}
CASES = [*((family, {}) for family in FAMILIES), ("glm4_moe", GROUPED)]
CASES += [("youtu", {"q_lora_rank": None})]


@pytest.mark.parametrize(("family", "changes"), CASES)
@pytest.mark.parametrize("rank", [4, 16])
def test_gradients_are_those_of_autograd(family: str, changes: dict[str, Any], rank: int) -> None:
    check_gradients(config_for(family, **changes), rank, LENGTHS)


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_gradients_of_sequences_of_several_blocks(family: str) -> None:
    config = config_for(family)
    if family == "gpt_oss":
        config.sliding_window = 70
    check_gradients(config, 4, ((140, 120), (250, 230)))


def check_gradients(config: Any, rank: int, lengths: tuple[tuple[int, int], ...]) -> None:
    slow, fast = build(config, 5)
    assert fast.native is not None
    assert training_unsupported_reason(fast.native) is None
    torch.manual_seed(rank)
    sequences = [torch.randint(1, 77, (length,)).tolist() for length, _ in lengths if length > 1]
    starts = [max(1, start) for length, start in lengths if length > 1]
    weights = adapter_of(slow, rank, 1)

    found = []
    for backend in ("torch", "native"):
        live = weights.trainable()
        if backend == "torch":
            logits = by_torch(slow, sequences, starts, live)
        else:
            logits = NativeTraining(fast.native, fast.model).logits(sequences, starts, live)
        torch.manual_seed(0)
        (logits * torch.randn_like(logits)).sum().backward()
        found.append((logits.detach(), {n: t.grad for n, t in live.tensors.items()}))

    (expected, gradients), (logits, ours) = found
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    for name, gradient in gradients.items():
        assert gradient is not None
        near = 1e-4 * max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(ours[name], gradient, atol=near, rtol=1e-3, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_for_the_backward_pass_is_what_it_would_compute_again(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast = build(config_for(family), 5)
    assert fast.native is not None
    training = NativeTraining(fast.native, fast.model)
    torch.manual_seed(0)
    sequences = [torch.randint(1, 77, (length,)).tolist() for length in (12, 30, 7)]
    weights = adapter_of(slow, 8, 1)

    def gradients(most: int) -> list[torch.Tensor | None]:
        monkeypatch.setattr("burnish.kernels.cpu.training.MOST_KEPT", most)
        live = weights.trainable()
        training.logits(sequences, [2, 9, 1], live).square().sum().backward()
        return [tensor.grad for tensor in live.tensors.values()]

    kept = training.activations(49, 1 << 30)
    assert (kept is None) == (family in MLA)
    training.give_back(kept)
    with torch.no_grad():  # which has no backward pass to keep anything for
        training.logits(sequences, [2, 9, 1], weights)
    assert training._spare is kept
    for one, other in zip(gradients(1 << 30), gradients(0), strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_gradients_add_up_over_calls_and_do_not_depend_on_threads(family: str) -> None:
    slow, fast = build(config_for(family), 5)
    assert fast.native is not None
    training = NativeTraining(fast.native, fast.model)
    sequences = [torch.randint(1, 77, (length,)).tolist() for length in (12, 30, 7)]
    weights = adapter_of(slow, 8, 1)

    def gradients(groups: list[list[int]], threads: int) -> list[torch.Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        live = weights.trainable()
        for group in groups:
            some = [sequences[i] for i in group]
            training.logits(some, [2] * len(some), live).square().sum().backward()
        torch.set_num_threads(before)
        return [t.grad for t in live.tensors.values() if t.grad is not None]

    runs = [gradients([[0, 1, 2]], 1), gradients([[0, 1, 2]], 2), gradients([[0], [1, 2]], 2)]
    for one, other in pairwise(runs):
        assert len(one) == len(other) == len(weights.tensors)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
