"""A policy under training, as rules meet it: fresh rollouts, and how probable it finds given answers.

It samples through the engine that also serves, on the model that scores and, in one process, trains, so
the probabilities that act are those that learn. Wherever the trainer is, the model here computes them under
the trainer's present adapter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import token_logprobs
from burnish.learner.training.protocol import Trainer
from burnish.learner.training.rollouts import Rollout, Sampler, generate
from burnish.learner.training.trainer import SLOT
from burnish.serving.engine import Request, SamplingParams

SCORING_SLOT = SLOT + 1  # beside the trainer's own, which a trainer elsewhere does not fill


class PolicySampler:
    """The policy as update rules see it: its `model`, answers drawn anew, and their probabilities."""

    def __init__(self, model: LoadedModel, sampler: Sampler, trainer: Trainer) -> None:
        self.model = model
        self._sampler, self._trainer = sampler, trainer
        self._published = itertools.count()
        self._adapter: str | None = None

    def sample(
        self,
        prompts: Sequence[tuple[int, ...]],
        *,
        samples: int,
        max_tokens: int,
        seed: int,
        base: bool = False,
    ) -> list[list[Rollout]]:
        """`samples` rollouts of each prompt under the present weights, or the base's, at temperature 1,
        in one batch; grouped by prompt."""
        name = None if base else self._publish()
        requests = [
            Request(
                id=f"{name or 'base'}-{index}-{number}",
                prompt_ids=prompt,
                params=SamplingParams(max_tokens=max_tokens, seed=seed + index * samples + number),
                adapter=name,
            )
            for index, prompt in enumerate(prompts)
            for number in range(samples)
        ]
        rollouts = generate(self._sampler, requests)
        if base:  # the base cannot forget, so what it says better is worth learning again
            rollouts = [replace(rollout, imitated=True) for rollout in rollouts]
        return [rollouts[i : i + samples] for i in range(0, len(rollouts), samples)]

    def logprobs(self, rollouts: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """The log-probability of each token of these answers under the present weights."""
        self.model.set_adapter(SCORING_SLOT, self._trainer.adapter)
        try:
            return token_logprobs(self.model, rollouts, SCORING_SLOT)
        finally:
            self.model.set_adapter(SCORING_SLOT, None)

    def base_logprobs(self, rollouts: Sequence[Rollout]) -> list[tuple[float, ...]]:
        """The same under the frozen base."""
        return token_logprobs(self.model, rollouts)

    def with_logprobs(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The same; those that came without log-probabilities, since no policy of ours drew them, with
        the present policy's."""
        unknown = [len(rollout.logprobs) != len(rollout.token_ids) for rollout in rollouts]
        own = iter(self.logprobs(list(compress(rollouts, unknown))))
        return [
            replace(rollout, logprobs=next(own)) if missing else rollout
            for rollout, missing in zip(rollouts, unknown, strict=True)
        ]

    def close(self) -> None:
        """Free the sampler's adapter slot."""
        if self._adapter is not None:
            self._sampler.unload_adapter(self._adapter)
            self._adapter = None

    def _publish(self) -> str:
        """Give the sampler the present weights, under a new adapter name."""
        self.close()
        self._adapter = f"trainer/{next(self._published)}"
        self._sampler.set_adapter_weights(self._adapter, self._trainer.adapter.detached())
        return self._adapter
