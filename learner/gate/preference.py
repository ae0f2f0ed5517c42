"""Whether people would like a candidate's answers as much as the champion's, by the reward model.

For updates that begin anew at the base: they take the champion's place only if nothing that was learnt is
lost. Both answer the same logged prompts with the same seeds. Left out: people themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.checks import paired_difference
from burnish.learner.gate.report import Check
from burnish.learner.training.rollouts import Sampler, generate
from burnish.serving.engine import Request, SamplingParams
from burnish.serving.reward.features import base_features
from burnish.serving.reward.reward_model import RewardModel

PROMPTS = 96
ONE_SIDED_95 = 1.645  # standard errors


def preference(
    model: LoadedModel,
    sampler: Sampler,
    reward: RewardModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    champion: AdapterWeights,
    candidate: AdapterWeights,
    max_tokens: int,
) -> Check:
    """The candidate's answers are foreseen to be liked as much, but for the noise of so few prompts."""
    old = liked(model, sampler, reward, prompts[:PROMPTS], champion, max_tokens)
    new = liked(model, sampler, reward, prompts[:PROMPTS], candidate, max_tokens)
    change, error = paired_difference(old, new)
    low = -ONE_SIDED_95 * error
    return Check(
        name="preference",
        value=change,
        low=low,
        passed=change >= low,
        says=f"foreseen thumbs moved by {change:+.3f} against the champion (allowed: {low:.3f})",
    )


def liked(
    model: LoadedModel,
    sampler: Sampler,
    reward: RewardModel,
    prompts: Sequence[tuple[int, ...]],
    adapter: AdapterWeights,
    max_tokens: int,
) -> list[float]:
    """P(liked) of one answer to each prompt, with a seed of its own."""
    name = "preference"
    sampler.set_adapter_weights(name, adapter)
    try:
        rollouts = generate(
            sampler,
            [
                Request(
                    id=f"{name}-{number}",
                    prompt_ids=prompt,
                    params=SamplingParams(max_tokens=max_tokens, seed=number),
                    adapter=name,
                )
                for number, prompt in enumerate(prompts)
            ],
        )
    finally:
        sampler.unload_adapter(name)
    answers = [(rollout.prompt_ids, rollout.token_ids) for rollout in rollouts]
    return reward.mean(base_features(model, answers)).tolist()
