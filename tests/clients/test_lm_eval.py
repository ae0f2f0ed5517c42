"""lm-evaluation-harness on `/v1/completions`: its two kinds of question, on the shipped model or the
folder that BURNISH_TEST_MODEL names.

Choices are ranked by the log-probabilities of their tokens (`echo` with `logprobs`); they must be those
that transformers computes. Other questions are answered freely, up to a stop string.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from burnish.ops.settings import EMBER
from burnish.serving.engine import LocalEngine
from burnish.serving.settings import ServingSettings
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.clients.environment import ENVIRONMENT, NEEDS_CLIENTS
from tests.serving.conftest import Running

pytestmark = NEEDS_CLIENTS
MODEL = Path(os.environ.get("BURNISH_TEST_MODEL", EMBER)).resolve()
SUMS = [{"sum": f"{a} + {b} =", "right": str(a + b)} for a, b in ((2, 3), (12, 30), (7, 40))]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
doc_to_text: "{{{{sum}}}}"
output_type: {kind}
{more}
"""
RANKED = """
doc_to_choice: "{{[right, '5000']}}"
doc_to_target: 0
target_delimiter: " "
metric_list: [{metric: acc}]
"""
ANSWERED = """
doc_to_target: "{{right}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match}]
"""
KINDS = {"ranked": ("multiple_choice", RANKED), "answered": ("generate_until", ANSWERED)}


@pytest.fixture
def running(serve: Callable[..., Running], settings: ServingSettings) -> Running:
    real = settings.model_copy(update={"model": MODEL})
    return serve(real, LocalEngine(MODEL, max_running=8, threads=1))


def samples_of(url: str, folder: Path, name: str) -> list[dict[str, Any]]:
    """What the harness asked and was answered, question by question."""
    file = folder / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, SUMS)))
    kind, more = KINDS[name]
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, file=file, kind=kind, more=more))
    model = f"model=default,base_url={url}/v1/completions,tokenizer={MODEL},num_concurrent=2"
    options = ["--model", "local-completions", "--model_args", model, "--tasks", name]
    options += ["--include_path", str(folder), "--output_path", str(folder), "--log_samples"]
    home = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    command = [str(ENVIRONMENT / "bin/lm_eval"), "run", *options]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (written,) = folder.rglob(f"samples_{name}_*.jsonl")
    return [json.loads(line) for line in written.read_text().splitlines()]


def test_choices_are_ranked_by_the_models_own_log_probabilities(
    running: Running, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for sample in samples_of(running.url, tmp_path, "ranked"):
        for number, choice in enumerate((sample["doc"]["right"], "5000")):
            before = tokenizer.encode(sample["doc"]["sum"])
            ids = tokenizer.encode(f"{sample['doc']['sum']} {choice}")
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, len(before) - 1 : -1]
            wanted = logits.log_softmax(-1)[range(len(ids) - len(before)), ids[len(before) :]].sum()
            told, greedy = sample["filtered_resps"][number]
            assert float(told) == pytest.approx(float(wanted), abs=0.02)
            assert str(greedy) == str(logits.argmax(-1).tolist() == ids[len(before) :])


def test_questions_are_answered_up_to_a_stop_string(running: Running, tmp_path: Path) -> None:
    answers = [sample["resps"][0][0] for sample in samples_of(running.url, tmp_path, "answered")]
    again = [
        running.openai.completions.create(
            model="default", prompt=asked["sum"], max_tokens=8, temperature=0, stop=["\n"]
        )
        .choices[0]
        .text
        for asked in SUMS
    ]
    assert answers == again
