"""Rollouts: sampled answers to learn from, and what the learner needs of an engine to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from burnish.kernels.lora import AdapterWeights
from burnish.serving.engine import Completion, Request


class Sampler(Protocol):
    """What the learner needs of an engine."""

    def generate_batch(self, requests: Sequence[Request]) -> list[Completion]: ...

    def set_adapter_weights(self, name: str, weights: AdapterWeights) -> None: ...

    def unload_adapter(self, name: str) -> None: ...


@dataclass(frozen=True)
class Rollout:
    """A prompt and one answer to it. `logprobs` are the behaviour policy's, one per answer token.

    `imitated`: learnt from at full weight, however unlikely it has become under the policy;
    `truncated`: cut at the length limit, so that nobody can say what it would have been.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    advantage: float = 0.0
    text: str = ""
    imitated: bool = False
    truncated: bool = False

    @classmethod
    def of(cls, request: Request, completion: Completion) -> Rollout:
        return cls(
            request.prompt_ids,
            completion.token_ids,
            completion.logprobs,
            text=completion.text,
            truncated=completion.finish_reason == "length",
        )

    @property
    def sequence(self) -> tuple[int, ...]:
        """Prompt and answer, as the model reads them."""
        return self.prompt_ids + self.token_ids

    def with_advantage(self, advantage: float) -> Rollout:
        return replace(self, advantage=advantage)


def generate(sampler: Sampler, requests: Sequence[Request]) -> list[Rollout]:
    """One rollout per request, in one batch."""
    completions = sampler.generate_batch(requests)
    return [Rollout.of(*pair) for pair in zip(requests, completions, strict=True)]
