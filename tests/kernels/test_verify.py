"""`burnish verify` on every family: what loads computes what transformers computes."""

from pathlib import Path

import pytest
import torch
from burnish.kernels import verify as module
from burnish.kernels.model import ModelError, load_model
from burnish.kernels.verify import verify

from tests.tiny_model import build_tiny_model

FAMILIES = ["qwen3_moe", "mixtral", "olmoe", "llama", "qwen3", "gpt_oss", "deepseek_v3", "glm4_moe"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_what_transformers_says(family: str, tmp_path: Path) -> None:
    findings = list(verify(build_tiny_model(tmp_path, family), rows=2, length=64))
    assert len(findings) == 4
    assert all(finding.passed for finding in findings), findings


def test_a_wrong_weight_is_found_out(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(folder: Path, **options):
        model = load_model(folder, **options, native=False)
        with torch.no_grad():
            model.model.get_parameter("model.layers.1.self_attn.o_proj.weight")[0, 0] += 1
        return model

    monkeypatch.setattr(module, "load_model", spoilt)
    assert not all(finding.passed for finding in verify(tiny_model, rows=1, length=16))


def test_an_architecture_we_cannot_cache_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"qwen3_moe"', '"qwen3_next"').replace(
            "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"
        )
    )
    with pytest.raises(ModelError, match="linear attention"):
        load_model(tmp_path)
