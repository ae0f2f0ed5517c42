"""The baselines against TRL: from one batch, the gradient in the adapter is that of TRL's own loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from burnish.kernels.model import LoadedModel
from burnish.learner.reward.experience import Correction
from burnish.learner.rules import RULES, StepConfig
from burnish.learner.rules.corrections import corrections
from burnish.learner.tasks import GeneratorPack, Task, TaskSource
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import PolicySampler
from burnish.learner.training.trainer import PolicyTrainer
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from tests.learner.rules.conftest import data_of, random_log

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

BETA, BATCH, GROUP, LONGEST = 0.3, 6, 4, 8
COMMON: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "disable_tqdm": True,
    "router_aux_loss_coef": 0.0,  # the rules' losses balance no experts
    "per_device_train_batch_size": BATCH,
}


def theirs(kind: Any, config: Any, rows: list[dict], trainer: PolicyTrainer, **more: Any) -> Any:
    """TRL's trainer, on the same base and with the same adapter."""
    spec, path = trainer.adapter.spec, trainer.model.path
    made = kind(
        AutoModelForCausalLM.from_pretrained(
            path, attn_implementation="eager", experts_implementation="eager"
        ),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=trainer.model.tokenizer,
        peft_config=LoraConfig(
            r=spec.rank,
            lora_alpha=int(spec.alpha),
            target_modules=[name for name in spec.targets if ".experts." not in name],
            target_parameters=[name for name in spec.targets if ".experts." in name],
            task_type="CAUSAL_LM",
        ),
        **more,
    )
    set_peft_model_state_dict(made.model, dict(trainer.adapter.detached().tensors))
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    return made


def their_gradients(made: Any, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    made.compute_loss(made.model, inputs).backward()
    return {
        name.replace(".default", ""): parameter.grad
        for name, parameter in made.model.named_parameters()
        if parameter.requires_grad
    }


def our_gradients(trainer: PolicyTrainer, rollouts: Sequence[Rollout]) -> dict[str, Tensor]:
    report = trainer.step(rollouts)
    assert report.ratio == pytest.approx(1.0, abs=1e-4)
    return {name: tensor.grad for name, tensor in trainer.adapter.tensors.items()}  # type: ignore[misc]


def assert_same(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    size = sum(float(tensor.square().sum()) for tensor in expected.values()) ** 0.5
    apart = sum(float((ours[name] - expected[name]).square().sum()) for name in ours) ** 0.5
    assert size > 1e-3
    assert apart < 1e-4 * size


def test_kto_steps_along_trls_gradient(trainer, policy, tmp_path):
    log = random_log(BATCH)  # two liked for each disliked
    for _ in range(8):  # after which KL is above zero, where an estimate of it is cut off
        trainer.step(
            [Rollout(e.prompt_ids, e.token_ids, (-9.0,) * len(e.token_ids), 1.0) for e in log]
        )
    rule = RULES["kto"](StepConfig(rollouts=BATCH, beta=BETA), {})
    rule.prepare(policy, data_of(log), seed=0)
    batch = rule.batch(policy, 0, seed=0)
    assert batch is not None
    assert batch.figures["kto_kl"] > 0.1
    liked = {e.token_ids: e.reward > 0 for e in log}
    answers = [list(rollout.token_ids) for rollout in batch.rollouts]
    config = KTOConfig(str(tmp_path), beta=BETA, undesirable_weight=2.0, **COMMON)
    rows = [{"prompt": "a", "completion": "b", "label": True}] * BATCH
    made = theirs(KTOTrainer, config, rows, trainer)
    inputs = made.data_collator(
        [
            {
                "prompt_ids": list(rollout.prompt_ids),
                "completion_ids": answer,
                "KL_completion_ids": mismatched,
                "label": liked[rollout.token_ids],
            }
            for rollout, answer, mismatched in zip(
                batch.rollouts, answers, [answers[-1], *answers[:-1]], strict=True
            )
        ]
    )
    assert_same(our_gradients(trainer, batch.rollouts), their_gradients(made, inputs))


def test_dpo_steps_along_trls_gradient(trainer, policy, tmp_path):
    log = random_log(BATCH, corrections=(Correction("the quick brown fox", 1.0),))
    pairs = list(corrections(log, policy.model, max_tokens=64))
    rule = RULES["dpo"](StepConfig(rollouts=2 * BATCH, max_tokens=32, beta=BETA), {})
    rule.prepare(policy, data_of(log, pairs=pairs), seed=0)
    batch = rule.batch(policy, 0, seed=0)
    assert batch is not None
    chosen, rejected = batch.rollouts[:BATCH], batch.rollouts[BATCH:]
    config = DPOConfig(str(tmp_path), beta=BETA, **COMMON)
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * BATCH
    made = theirs(DPOTrainer, config, rows, trainer)
    inputs = made.data_collator(
        [
            {
                "prompt_ids": list(better.prompt_ids),
                "chosen_ids": list(better.token_ids),
                "rejected_ids": list(worse.token_ids),
            }
            for better, worse in zip(chosen, rejected, strict=True)
        ]
    )
    assert_same(our_gradients(trainer, batch.rollouts), their_gradients(made, inputs))


class Remembering:
    """A policy that remembers what it sampled."""

    def __init__(self, policy: PolicySampler) -> None:
        self.model: LoadedModel = policy.model
        self._policy = policy
        self.sampled: list[Rollout] = []

    def sample(self, *args: Any, **options: Any) -> list[list[Rollout]]:
        groups = self._policy.sample(*args, **options)
        self.sampled = [rollout for group in groups for rollout in group]
        return groups


def test_grpo_steps_along_trls_gradient(trainer, policy, tmp_path: Path):
    """TRL gets the same answers from its `rollout_func`, and rewards and scores them by itself."""

    def right(text: str) -> bool:
        return len(text) % 2 == 0

    def ask(rng, level: int) -> Task:
        return Task("", ({"role": "user", "content": f"Say {rng.random()}."},), right)

    remembering = Remembering(policy)
    size = 3 * GROUP
    config = StepConfig(rollouts=size, samples_per_prompt=GROUP, max_tokens=LONGEST)
    rule = RULES["grpo"](config, {})
    tasks = TaskSource([GeneratorPack("p", {"even": ask})])
    rule.prepare(remembering, data_of([], tasks=tasks), seed=0)  # type: ignore[arg-type]
    batch = rule.batch(remembering, 0, seed=0)  # type: ignore[arg-type]
    assert batch is not None
    assert batch.rollouts
    sampled = remembering.sampled

    def again(prompts: Any, trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [list(rollout.prompt_ids) for rollout in sampled],
            "completion_ids": [list(rollout.token_ids) for rollout in sampled],
            "logprobs": [list(rollout.logprobs) for rollout in sampled],
            "text": [rollout.text for rollout in sampled],
        }

    def reward(text: list[str], **rest: Any) -> list[float]:
        return [float(right(one)) for one in text]

    settings = GRPOConfig(
        str(tmp_path),
        loss_type="dr_grpo",
        scale_rewards="none",
        num_generations=GROUP,
        max_completion_length=LONGEST,
        **{**COMMON, "per_device_train_batch_size": size},
    )
    rows = [{"prompt": "a"} for _ in range(size)]
    made = theirs(GRPOTrainer, settings, rows, trainer, reward_funcs=reward, rollout_func=again)
    inputs = made._generate_and_score_completions(rows)
    assert_same(our_gradients(trainer, batch.rollouts), their_gradients(made, inputs))
