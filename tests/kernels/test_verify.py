"""`burnish verify` on every family: what loads computes what transformers computes."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from burnish.kernels import verify as module
from burnish.kernels.cpu import library as native
from burnish.kernels.folder import ModelError
from burnish.kernels.formats import Cache, Weights
from burnish.kernels.loading import load_model
from burnish.kernels.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import missing
from tests.tiny_model import build_tiny_model

FAMILIES = ["qwen3_moe", "mixtral", "olmoe", "llama", "qwen3", "gpt_oss", "deepseek_v3", "glm4_moe"]
RECURRENT = ["qwen3_next"]


@pytest.mark.parametrize("family", [*FAMILIES, *RECURRENT])
def test_every_family_is_what_transformers_says(family: str, tmp_path: Path) -> None:
    findings = list(verify(build_tiny_model(tmp_path, family), rows=2, length=64))
    assert len(findings) == 4
    assert all(finding.passed for finding in findings), findings


SHAPES = st.fixed_dictionaries(
    {
        "num_hidden_layers": st.integers(1, 3),
        "hidden_size": st.sampled_from([32, 64, 96]),
        "tie_word_embeddings": st.booleans(),
    }
)


@settings(max_examples=8)
@given(
    family=st.sampled_from(FAMILIES),
    shape=SHAPES,
    heads=st.sampled_from([(2, 1), (4, 2), (4, 4), (4, 1)]),
    width=st.sampled_from([8, 16, 32]),
    crowd=st.sampled_from([(4, 1), (4, 3), (8, 2)]),
    window=st.sampled_from([None, 3, 17]),
)
def test_every_family_in_shapes_nobody_chose(family, shape, heads, width, crowd, window) -> None:
    """Head counts and widths, experts and windows that no released model has."""
    more = {**shape, "num_attention_heads": heads[0], "num_key_value_heads": heads[1]}
    if family in ("qwen3_moe", "qwen3", "llama", "mixtral", "gpt_oss", "glm4_moe"):
        more["head_dim"] = width
    experts = {"mixtral": "num_local_experts", "gpt_oss": "num_local_experts"}
    if family in ("deepseek_v3", "glm4_moe"):
        experts[family] = "n_routed_experts"
        more["first_k_dense_replace"] = shape["num_hidden_layers"] - 1
    if family in ("qwen3_moe", "olmoe"):
        experts[family] = "num_experts"
    if family in experts:
        more |= {experts[family]: crowd[0], "num_experts_per_tok": crowd[1]}
    if family == "deepseek_v3":  # MLA has widths of its own, and its heads share nothing
        more |= {"num_key_value_heads": heads[0], "v_head_dim": width}
        more |= {"num_experts_per_tok": min(2, crowd[1])}
    if family in ("mixtral", "gpt_oss") and window:
        more["sliding_window"] = window
    with tempfile.TemporaryDirectory() as folder:
        built = build_tiny_model(Path(folder), family, **more)
        findings = list(verify(built, rows=2, length=12))
    assert all(finding.passed for finding in findings), findings


@pytest.mark.parametrize(
    ("weights", "kv_cache", "named"),
    [
        ("bfloat16", "auto", "bfloat16:"),
        ("int8", "auto", "int8:"),
        ("int4", "auto", "int4:"),
        ("auto", "int8", "a cache in int8:"),
        ("int4", "int8", "int4 with a cache in int8:"),
    ],
)
def test_what_a_format_costs_is_measured_and_bounded(
    weights: Weights, kv_cache: Cache, named: str, tiny_model: Path
) -> None:
    if native.library() is None:
        missing("no native library: a C++ compiler is needed")
    told: list[str] = []
    asked: dict[str, Any] = {"weights": weights, "kv_cache": kv_cache, "rows": 2, "length": 32}
    found = list(verify(tiny_model, **asked, progress=told.append))
    assert len(told) == module.phases(weights, kv_cache)
    costs = [one for one in found if one.name.startswith(named)]
    assert len(costs) == 3
    assert all(one.passed for one in found), found
    assert costs[0].difference > 0
    bounds = [[one.allowed for one in _costs_of(form)] for form in ("bfloat16", "int8", "int4")]
    assert bounds == sorted(bounds)  # a smaller format may cost more


def _costs_of(weights: str) -> list[module.Comparison]:
    logits = torch.randn(1, 3, 7)
    return list(module._costs(logits, logits, weights, weights))


@pytest.mark.parametrize("off", [0.0, 0.5])
def test_a_format_that_loses_more_is_told(off: float) -> None:
    torch.manual_seed(0)
    expected = torch.randn(2, 30, 50) * 3
    found = expected + off * expected.std() * torch.randn(expected.shape)
    error, divergence, changed = module._costs(found, expected, "int8", "int8")
    assert error.difference == pytest.approx(off, rel=0.1)
    passed = [one.passed for one in (error, divergence, changed)]
    assert passed == [off == 0] * 3


def test_a_greedy_token_counts_by_how_far_it_is_behind() -> None:
    """Near ties within the tolerance are float32's rounding; anything else is ours."""
    logits = torch.tensor([[[1.0, 3.0, 2.9995], [0.0, 5.0, 1.0]]])

    def reference(tokens: torch.Tensor) -> torch.Tensor:
        return logits.expand(len(tokens), -1, -1)

    prompts = torch.tensor([[0]])
    for chosen, behind in ([1, 1], 0.0), ([2, 1], 5e-4), ([1, 2], 4.0):
        found = module._behind_best(reference, prompts, torch.tensor([chosen]))
        assert found == pytest.approx(behind, abs=1e-6)


def test_a_wrong_weight_is_found_out(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(folder: Path, **options):
        model = load_model(folder, **options, native=False)
        with torch.no_grad():
            model.model.get_parameter("model.layers.1.self_attn.o_proj.weight")[0, 0] += 1
        return model

    monkeypatch.setattr(module, "load_model", spoilt)
    assert not all(finding.passed for finding in verify(tiny_model, rows=1, length=16))


def test_an_architecture_we_cannot_cache_is_refused(tmp_path: Path) -> None:
    build_tiny_model(tmp_path, "qwen3_next")
    config = json.loads((tmp_path / "config.json").read_text())
    config["layer_types"][0] = "chunked_attention"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="chunked_attention"):
        load_model(tmp_path)
