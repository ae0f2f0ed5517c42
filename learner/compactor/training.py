"""Training the scorer: imitation of leave-one-out labels first, then reward.

An episode is one question on a simulated world at a budget drawn from 2 to 50 %. The reward of a
sample is 1 for the right answer minus lambda times the share of tokens picked. Lambda rises while
at least 98 % of the answerable questions are answered and falls otherwise (dual ascent), so that
tokens are saved only where the score allows it. Each episode is sampled several times; the mean of
the other samples is the baseline (leave-one-out, RLOO, arXiv 2402.14740). Seeds are round numbers:
a run killed at any moment goes on from its last finished round and ends with the same weights.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from burnish.learner.compactor.examples import (
    TrainingExample,
    make_evidence_examples,
    make_examples,
)
from burnish.learner.compactor.network import Network, pad, save
from burnish.memory.compaction import DROP, KEEP, SHORTEN
from torch import Tensor

STATE, FIGURES, WEIGHTS = "training.pt", "training.json", "compactor.safetensors"


class TrainingError(Exception):
    """A run that cannot be resumed."""


@dataclass(frozen=True)
class CompactorTrainingConfig:
    """Hyperparameters of a run; equal ones give equal weights."""

    seed: int = 0
    imitation_rounds: int = 32
    reward_rounds: int = 16
    worlds: int = 24  # per round, with 12 questions each
    talks: int = 9  # between people, likewise
    chats: int = 6  # of a person with an assistant
    links: int = 4  # names that stand for one another, in filler
    passes: int = 4  # over a round's episodes
    batch: int = 36
    samples: int = 8  # of each episode
    imitation_rate: float = 2e-3
    reward_rate: float = 3e-4
    target: float = 0.98  # of the score of the full context
    dual_rate: float = 0.5
    most_lambda: float = 20.0
    threads: int = 1

    @property
    def rounds(self) -> int:
        return self.imitation_rounds + self.reward_rounds


@dataclass
class CompactorTrainingProgress:
    """Where a run stands after a round."""

    round: int = 0
    lam: float = 1.0
    seconds: float = 0.0
    score: float = 0.0  # of answerable episodes, greedy, in the round just trained on
    share: float = 0.0  # of tokens its picks cost
    loss: float = 0.0


def train(
    out: Path,
    config: CompactorTrainingConfig,
    *,
    resume: bool = True,
    on_round: Callable[
        [CompactorTrainingConfig, CompactorTrainingProgress], None
    ] = lambda config, progress: None,
) -> Network:
    """Train in folder `out`; `on_round` after every round. Raises TrainingError."""
    torch.set_num_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.imitation_rate, weight_decay=1e-2)
    progress = _resumed(out, config, network, optimiser) if resume else CompactorTrainingProgress()
    while progress.round < config.rounds:
        began = time.monotonic()
        episodes = _episodes(network, config, progress.round)
        if progress.round == 0:
            network.fit_scale([look.rows for episode in episodes for look in episode.looks])
        rng = np.random.default_rng([config.seed, progress.round])
        learn = _imitate if progress.round < config.imitation_rounds else _reinforce
        _set_rate(optimiser, config, progress.round)
        losses = [
            learn(network, optimiser, config, progress, batch, rng)
            for _ in range(config.passes)
            for batch in _batches(episodes, config.batch, rng)
        ]
        progress.loss = float(np.mean(losses))
        progress.score, progress.share = measure(network, episodes)
        progress.round += 1
        progress.seconds += time.monotonic() - began
        _checkpoint(out, config, network, optimiser, progress)
        on_round(config, progress)
    save(network, out / WEIGHTS)
    return network


@torch.no_grad()
def measure(network: Network, episodes: Sequence[TrainingExample]) -> tuple[float, float]:
    """Score over answerable episodes, and share of tokens, of the scorer's greedy picks."""
    scorer = network.scorer()
    done = []
    for episode in episodes:
        if episode.feasible:
            logits = scorer.logits(episode.features.rows)
            done.append(episode.outcome(logits.argmax(1), -logits[:, DROP]))
    right, share = zip(*done, strict=True)
    return float(np.mean(right)), float(np.mean(share))


def _episodes(
    network: Network, config: CompactorTrainingConfig, round: int
) -> list[TrainingExample]:
    scorer = network.scorer()
    examples: list[TrainingExample] = []
    kinds = {
        "": config.worlds,
        "talk": config.talks,
        "assistant": config.chats,
        "links": config.links,
    }
    for kind, worlds in kinds.items():
        first = 1_000_000 * config.seed + round * worlds
        for seed in range(first, first + worlds):
            examples += (
                make_evidence_examples(scorer, seed, kind) if kind else make_examples(scorer, seed)
            )
    return examples


def _batches(
    episodes: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> list[list[TrainingExample]]:
    order = rng.permutation(len(episodes))
    return [[episodes[i] for i in order[at : at + size]] for at in range(0, len(order), size)]


def _set_rate(
    optimiser: torch.optim.Optimizer, config: CompactorTrainingConfig, round: int
) -> None:
    """One cosine schedule per phase."""
    early = round < config.imitation_rounds
    rounds = config.imitation_rounds if early else config.reward_rounds
    done = (round if early else round - config.imitation_rounds) / max(rounds, 1)
    peak = config.imitation_rate if early else config.reward_rate
    for group in optimiser.param_groups:
        group["lr"] = peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def _imitate(
    network: Network,
    optimiser: torch.optim.Optimizer,
    config: CompactorTrainingConfig,
    progress: CompactorTrainingProgress,
    batch: Sequence[TrainingExample],
    rng: np.random.Generator,
) -> float:
    """Cross-entropy against the labels, of every look."""
    return _step(network, optimiser, imitation_loss(network, batch, slice(None)))


def imitation_loss(network: Network, batch: Sequence[TrainingExample], looks: slice) -> Tensor:
    """The few units that are wanted weigh about as much as the many that are not."""
    rows, mask = pad([look.rows for example in batch for look in example.looks[looks]])
    wanted = torch.zeros(mask.shape, dtype=torch.long)
    for i, labels in enumerate(w for example in batch for w in example.labels[looks]):
        wanted[i, : len(labels)] = torch.from_numpy(labels)
    weight = torch.tensor([1.0, 12.0, 12.0])
    losses = F.cross_entropy(
        network(rows, mask).transpose(1, 2), wanted, weight=weight, reduction="none"
    )
    return (losses * mask).sum() / mask.sum()


def _reinforce(
    network: Network,
    optimiser: torch.optim.Optimizer,
    config: CompactorTrainingConfig,
    progress: CompactorTrainingProgress,
    batch: Sequence[TrainingExample],
    rng: np.random.Generator,
) -> float:
    """One policy-gradient step on the last look, and one dual step of lambda; earlier looks go on
    imitating, since no reward is computed for them."""
    rows, mask = pad([example.features.rows for example in batch])
    log_p = network(rows, mask).log_softmax(-1)
    actions = sample(log_p.detach().numpy(), config.samples, rng)
    rewards = np.zeros((len(batch), config.samples), np.float32)
    answered: list[float] = []
    for i, example in enumerate(batch):
        n = len(example.features.chosen)
        order = -log_p[i, :n, DROP].detach().numpy()
        for k in range(config.samples):
            right, share = example.outcome(actions[k, i, :n], order)
            rewards[i, k] = right - progress.lam * share
            if example.feasible:
                answered.append(right)
    advantage = _leave_one_out(rewards)
    loss = policy_loss(log_p, mask, actions, advantage)
    # An entropy bonus keeps the policy exploring where the reward says nothing yet.
    entropy = -(log_p.exp() * log_p).sum(-1)
    loss = loss - 1e-4 * (entropy * mask).sum() / len(batch)
    loss = loss + imitation_loss(network, batch, slice(0, -1))
    slack = float(np.mean(answered)) - config.target if answered else 0.0
    progress.lam = min(max(progress.lam + config.dual_rate * slack, 0.0), config.most_lambda)
    return _step(network, optimiser, loss)


def sample(log_p: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Actions [samples, batch, n] from log-probabilities [batch, n, 3] (Gumbel's trick)."""
    noise = rng.gumbel(size=(samples, *log_p.shape))
    return (log_p[None] + noise).argmax(-1)


def policy_loss(log_p: Tensor, mask: Tensor, actions: np.ndarray, advantage: np.ndarray) -> Tensor:
    """The surrogate loss whose gradient is minus the policy gradient; advantage [batch, samples]."""
    chosen = torch.from_numpy(actions)  # [samples, batch, n]
    picked = log_p[None].expand(len(actions), *log_p.shape).gather(-1, chosen[..., None])[..., 0]
    joint = (picked * mask).sum(-1)  # [samples, batch]
    return -(joint * torch.from_numpy(advantage.T.astype(np.float32))).mean()


def _leave_one_out(rewards: np.ndarray) -> np.ndarray:
    k = rewards.shape[1]
    others = (rewards.sum(1, keepdims=True) - rewards) / max(k - 1, 1)
    return rewards - others


def _step(network: Network, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _checkpoint(
    out: Path,
    config: CompactorTrainingConfig,
    network: Network,
    optimiser: torch.optim.Optimizer,
    progress: CompactorTrainingProgress,
) -> None:
    state = {
        "recipe": asdict(config),
        "progress": asdict(progress),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    temporary = out / f"{STATE}.{os.getpid()}"
    torch.save(state, temporary)
    temporary.rename(out / STATE)
    with (out / FIGURES).open("a") as log:
        log.write(json.dumps(asdict(progress)) + "\n")


def _resumed(
    out: Path, config: CompactorTrainingConfig, network: Network, optimiser: torch.optim.Optimizer
) -> CompactorTrainingProgress:
    file = out / STATE
    if not file.exists():
        return CompactorTrainingProgress()
    state: dict[str, Any] = torch.load(file, weights_only=True)
    if state["recipe"] != asdict(config):
        raise TrainingError(
            f"{out} holds a run with another recipe: use --fresh, or another folder"
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return CompactorTrainingProgress(**state["progress"])


# The network's outputs and the class weights above are in this order.
assert (DROP, SHORTEN, KEEP) == (0, 1, 2)
