"""The policy under training: an adapter held in memory that can answer, be read and take a step.

It samples through the engine that also serves, and trains the same tensors through the same model
code, so what it learns from is what users would get. One loss serves every update rule: policy
gradient with token-level truncated importance weights, and the exact KL to the frozen base over the
vocabulary as a penalty. Left out: sharding; one process holds the model, in float32.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from burnish.kernels.lora import AdapterWeights
from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import Task
from burnish.serving.engine import Completion, Request, SamplingParams
from torch import Tensor

# The learner's own slot in the model's adapter tables; the engine numbers its own from one.
SLOT = 1 << 20
# Rows of similar length go through the model together, at most so many padded tokens at once.
CHUNK_TOKENS = 1024


class Sampler(Protocol):
    """What the learner needs of an engine."""

    def generate_batch(self, requests: Sequence[Request]) -> list[Completion]: ...

    def set_adapter_weights(self, name: str, weights: AdapterWeights) -> None: ...

    def unload_adapter(self, name: str) -> None: ...


@dataclass(frozen=True)
class Answer:
    """One answer to learn from. `logprobs` are those of the policy that gave it, per token."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    advantage: float = 0.0
    text: str = ""

    def with_advantage(self, advantage: float) -> Answer:
        return replace(self, advantage=advantage)


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step saw. KL and entropy are nats per answer token."""

    answers: int
    tokens: int
    kl: float
    entropy: float
    ratio: float  # mean truncated importance weight
    grad_norm: float


@dataclass(frozen=True)
class TrainerConfig:
    learning_rate: float
    clip_norm: float
    kl_weight: float
    kl_budget: float
    ratio_cap: float = 2.0


class PolicyTrainer:
    """Adapter, optimiser and the two ways of using them: `sample` and `step`."""

    def __init__(
        self,
        model: LoadedModel,
        sampler: Sampler,
        adapter: AdapterWeights,
        hyper: TrainerConfig,
        moments: Mapping[str, Tensor] | None = None,
        name: str = "trainee",
    ) -> None:
        self.model = model
        self.hyper = hyper
        self.name = name
        self._sampler = sampler
        self._round = itertools.count()
        self._sampled: str | None = None
        self._over_budget = False
        self.adapter = adapter.trainable()
        self._tensors = dict(self.adapter.tensors)
        self._optimiser = torch.optim.AdamW(
            list(self._tensors.values()),
            lr=hyper.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=0.0,
        )
        if moments:
            self._restore(moments)

    # -- answering -------------------------------------------------------------------------

    def sample(
        self, prompts: Sequence[tuple[int, ...]], *, samples: int, max_tokens: int, seed: int
    ) -> list[list[Answer]]:
        """`samples` fresh answers to each prompt, at temperature 1, all in one batch."""
        name = self._publish()
        requests = [
            Request(
                id=f"{name}-{index}-{number}",
                prompt_ids=prompt,
                params=SamplingParams(max_tokens=max_tokens, seed=seed + index * samples + number),
                adapter=name,
            )
            for index, prompt in enumerate(prompts)
            for number in range(samples)
        ]
        done = self._sampler.generate_batch(requests)
        answers = [
            Answer(
                request.prompt_ids, completion.token_ids, completion.logprobs, 0.0, completion.text
            )
            for request, completion in zip(requests, done, strict=True)
        ]
        return [answers[i : i + samples] for i in range(0, len(answers), samples)]

    def close(self) -> None:
        """Free the sampler's and the model's slots."""
        if self._sampled is not None:
            self._sampler.unload_adapter(self._sampled)
            self._sampled = None
        self.model.set_adapter(SLOT, None)

    def _publish(self) -> str:
        """Hand the weights as they are now to the sampler, under a name of their own."""
        if self._sampled is not None:
            self._sampler.unload_adapter(self._sampled)
        self._sampled = f"{self.name}/{next(self._round)}"
        self._sampler.set_adapter_weights(self._sampled, self.adapter.detached())
        return self._sampled

    # -- learning --------------------------------------------------------------------------

    def step(self, answers: Sequence[Answer]) -> StepReport:
        """One optimiser step on answers that carry advantages.

        Past the KL budget only the penalty pulls, so the policy comes back before it learns on.
        """
        answers = [answer for answer in answers if answer.tokens]
        total = sum(len(answer.tokens) for answer in answers)
        if not total:
            return StepReport(0, 0, 0.0, 0.0, 1.0, 0.0)
        hyper, sums = self.hyper, torch.zeros(3, device=self.model.device)
        push, pull = (0.0, 4 * hyper.kl_weight) if self._over_budget else (1.0, hyper.kl_weight)
        self.model.set_adapter(SLOT, self.adapter)
        self._optimiser.zero_grad(set_to_none=True)
        for rows in chunks(answers):
            batch = Tokens.of(rows, self.model.device)
            sequences, starts = [a.prompt + a.tokens for a in rows], [len(a.prompt) for a in rows]
            base = self.model.read(sequences, starts).log_softmax(-1)  # [N, V]
            policy = self.model.read(sequences, starts, slot=SLOT).log_softmax(-1)
            chosen = policy.gather(1, batch.chosen[:, None]).squeeze(1)  # [N]
            ratio = (chosen.detach() - batch.behaviour).exp().clamp(max=hyper.ratio_cap)
            probabilities = policy.exp()
            kl = (probabilities * (policy - base)).sum(1)  # [N]
            gain = (ratio * batch.advantage * chosen).sum()
            ((pull * kl.sum() - push * gain) / total).backward()
            with torch.no_grad():
                entropy = -(probabilities * policy).sum()
                sums += torch.stack([kl.detach().sum(), entropy, ratio.sum()])
        norm = torch.nn.utils.clip_grad_norm_(list(self._tensors.values()), hyper.clip_norm)
        self._optimiser.step()
        kl_mean, entropy_mean, ratio_mean = (sums / total).tolist()
        self._over_budget = kl_mean > hyper.kl_budget
        return StepReport(len(answers), total, kl_mean, entropy_mean, ratio_mean, float(norm))

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state, by parameter name."""
        state = self._optimiser.state
        return {
            f"{key}.{name}": torch.as_tensor(value).clone()
            for name, tensor in self._tensors.items()
            for key, value in state[tensor].items()
        }

    def _restore(self, moments: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            saved = {
                key: moments[f"{key}.{name}"].clone()
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in moments
            }
            if len(saved) == 3 and saved["exp_avg"].shape == tensor.shape:
                self._optimiser.state[tensor] = saved


@dataclass(frozen=True)
class Tokens:
    """All N answer tokens of some answers, one after the other: ids, advantage, and behaviour
    log-probability."""

    chosen: Tensor
    advantage: Tensor
    behaviour: Tensor

    @classmethod
    def of(cls, answers: Sequence[Answer], device: torch.device) -> Tokens:
        put = partial(torch.tensor, device=device)
        return cls(
            chosen=put([t for answer in answers for t in answer.tokens]),
            advantage=put([a.advantage for a in answers for _ in a.tokens]),
            behaviour=put([p for answer in answers for p in answer.logprobs]),
        )


def chunks(answers: Sequence[Answer], budget: int = CHUNK_TOKENS) -> Iterator[list[Answer]]:
    """Split into groups of similar length whose padded size stays near `budget` tokens."""
    ordered = sorted(answers, key=lambda answer: len(answer.prompt) + len(answer.tokens))
    group: list[Answer] = []
    for answer in ordered:
        width = len(answer.prompt) + len(answer.tokens)
        if group and width * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(answer)
    if group:
        yield group


def base_features(model: LoadedModel, answers: Sequence[Answer]) -> Tensor:
    """The frozen base's view of each answer [N, 3H], in the order given: mean over the prompt, mean
    over the answer, and its last token, half-way up, where a model knows most about manner."""
    layers = max(1, model.config.num_hidden_layers // 2)
    rows = []
    for answer, states in zip(
        answers, model.states([a.prompt + a.tokens for a in answers], layers), strict=True
    ):
        asked, said = states[: len(answer.prompt)], states[len(answer.prompt) :]
        rows.append(torch.cat([asked.mean(0), said.mean(0), said[-1]]))
    return torch.stack(rows)


def task_prompt(model: LoadedModel, task: Task) -> tuple[int, ...]:
    """A task's chat as the token ids that serving would make of it."""
    ids = model.tokenizer.apply_chat_template(
        [_for_template(message) for message in task.messages],
        tools=list(task.tools) if task.tools else None,
        add_generation_prompt=True,
        enable_thinking=False,
        return_dict=False,
    )
    return tuple(ids)


def fits(model: LoadedModel, task: Task, room: int) -> bool:
    """Whether a task's prompt leaves `room` tokens for the answer."""
    return len(task_prompt(model, task)) + room <= model.max_model_len


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """Templates want a content, and a call's arguments as an object."""
    plain = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        plain["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": _object(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
    return plain


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments
