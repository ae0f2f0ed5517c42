"""Online updates of the compactor: feedback on answers given from a compacted view is its reward.

An interaction names the memory view it was answered from; where the learned policy sampled the plan
behind it, Redis holds the sampling trace (features, actions, log-probabilities). With the reward of
the answer that makes an episode, whose return is the reward minus lambda times the share of tokens
kept. The update is a clipped importance-weighted policy gradient (PPO, arXiv 1707.06347) with the
mean of the other episodes as baseline, beside imitation on simulated worlds, so that the feedback of
few users costs no skill. The gate decides; the lineage says up to which number judgements were used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import redis
import torch
from burnish.feedback.redis_clients import open_client
from burnish.feedback.trust.policy import TrustPolicy
from burnish.learner.compactor import gate, versions
from burnish.learner.compactor.examples import TrainingExample, make_examples
from burnish.learner.compactor.network import Network, pad
from burnish.learner.compactor.training import imitation_loss
from burnish.learner.database import Database
from burnish.learner.intake.joining import standing_judgements
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.reward.experience import rewards_of
from burnish.learner.settings import LearnerSettings
from burnish.learner.tables import CreditRow, ExperienceRow, InteractionRow
from burnish.learner.ticks import Tick, publish
from burnish.memory.compaction import DecisionTrace, load_trace
from burnish.serving.registry import PolicyRegistry, signing_keys
from sqlalchemy import func, select

MAX_EPISODES = 4096  # the latest judged answers
MAX_CREDITS = 4 * MAX_EPISODES  # the latest judgements, among which those answers are looked for


@dataclass(frozen=True)
class OnlineUpdateConfig:
    """Hyperparameters of one update."""

    least: int = 16  # new episodes, below which nothing is trained
    steps: int = 12
    rate: float = 2e-4
    clip: float = 0.2  # of the importance ratio, per unit
    lam: float = 0.5  # what a share of tokens costs, in reward
    imitation_worlds: int = 4  # simulated, per update
    seed: int = 0
    limits: gate.CompactorGateLimits = field(default_factory=gate.CompactorGateLimits)


@dataclass(frozen=True)
class Episode:
    """One judged answer and the sampling trace of the view it was given from."""

    trace: DecisionTrace
    reward: float  # in [-1, 1]
    weight: float
    credited: int  # the number of its newest judgement that counts


def episodes(
    database: Database, client: redis.Redis, after: int = 0, trust: TrustPolicy | None = None
) -> list[Episode]:
    """Of answers with a judgement that began to count after the number `after`, oldest first, however
    late it came. Those whose plan is gone or was not sampled are left out.

    Their judgements are weighed among those of all the latest answers, as in every other update.
    """
    # From the newest judgements on, so that a large database is not read whole.
    newest = select(CreditRow).order_by(CreditRow.seq.desc()).limit(MAX_CREDITS).subquery()
    latest = (
        select(newest.c.interaction_id, newest.c.choice, func.max(newest.c.seq).label("seq"))
        .group_by(newest.c.interaction_id, newest.c.choice)
        .order_by(func.max(newest.c.seq).desc())
        .limit(MAX_EPISODES)
        .subquery()
    )
    query = (
        select(
            InteractionRow.id,
            InteractionRow.tenant,
            InteractionRow.meta,
            latest.c.choice,
            latest.c.seq,
        )
        .join(latest, latest.c.interaction_id == InteractionRow.id)
        .order_by(latest.c.seq.desc())
    )
    found: list[Episode] = []
    with database.read() as session:
        rows = session.execute(query).all()
        answers = [(row.id, row.choice) for row in rows]
        standing = standing_judgements(session, answers)
        rewards = rewards_of([standing[answer] for answer in answers], trust)
        for row, reward in zip(rows, rewards, strict=True):
            view = _view(row.meta)
            if row.seq <= after or view is None or reward is None:
                continue
            trace = load_trace(client, row.tenant, view["session"], view["plan"])
            if trace is not None:
                found.append(Episode(trace, reward.value, reward.weight, row.seq))
    return found[::-1]


def _view(metadata: Mapping[str, Any]) -> dict | None:
    """The memory view it was answered from, where a plan was in force."""
    view = metadata.get("memory")
    if not isinstance(view, dict) or not view.get("plan") or not view.get("session"):
        return None
    return view


def improve(
    network: Network, judged: Sequence[Episode], config: OnlineUpdateConfig
) -> dict[str, float]:
    """Some gradient steps on `network`, in place; figures of the last one."""
    torch.manual_seed(config.seed)
    scorer = network.scorer()
    imitated = [
        e for w in range(config.imitation_worlds) for e in make_examples(scorer, config.seed + w)
    ]
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate)
    returns = np.array([e.reward - config.lam * e.trace.kept for e in judged], np.float32)
    others = (returns.sum() - returns) / max(len(returns) - 1, 1)
    weights = np.array([e.weight for e in judged], np.float32)
    advantage = torch.from_numpy((returns - others) * weights)
    rows, mask = pad([episode.trace.rows.astype(np.float32) for episode in judged])
    actions, before = torch.zeros(mask.shape, dtype=torch.long), torch.zeros(mask.shape)
    for i, episode in enumerate(judged):
        n = len(episode.trace.actions)
        actions[i, :n] = torch.from_numpy(episode.trace.actions.astype(np.int64))
        before[i, :n] = torch.from_numpy(episode.trace.logp.astype(np.float32))
    rng, figures = np.random.default_rng(config.seed), {}
    for _ in range(config.steps):
        logp = network(rows, mask).log_softmax(-1).gather(-1, actions[..., None])[..., 0]
        ratio = (logp - before).clamp(-5, 5).exp()
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        gain = torch.minimum(ratio * advantage[:, None], clipped * advantage[:, None])
        loss = -(gain * mask).sum(1).mean()
        if imitated:
            picked = rng.choice(len(imitated), size=min(12, len(imitated)), replace=False)
            batch: list[TrainingExample] = [imitated[i] for i in picked]
            loss = loss + imitation_loss(network, batch, slice(None))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        figures = {"loss": float(loss.detach()), "ratio": float(ratio[mask > 0].mean().detach())}
    return {**figures, "episodes": float(len(judged)), "reward": float(returns.mean())}


def update_compactor(
    settings: LearnerSettings, database: Database, config: OnlineUpdateConfig | None = None
) -> Tick | None:
    """One update of the compactor; None while another process makes one."""
    client = open_client(settings.redis_url, socket_timeout=10)
    lease = Lease(client, f"update:{versions.POLICY}", settings.lease_seconds, database=database)
    try:
        with lease:
            tick = _update(
                settings, database, client, config or OnlineUpdateConfig(seed=settings.seed), lease
            )
    except LeaseHeld:
        return None
    if tick.why_not is None or "version" in tick.counts:
        publish(client, tick)  # most services use other policies: no tick for nothing
    return tick


def _update(
    settings: LearnerSettings,
    database: Database,
    client: redis.Redis,
    config: OnlineUpdateConfig,
    lease: Lease,
) -> Tick:
    began = time.monotonic()
    registry = PolicyRegistry(
        settings.registry,
        settings.mlflow_artifacts,
        who="learner",
        keys=signing_keys(settings.data_dir),
    )
    acting, scorer = versions.champion(registry, settings.data_dir / "fetched")
    judged = episodes(database, client, _credited_until(registry, database), settings.trust)
    if len(judged) < config.least:
        why = f"{len(judged)} new judgements on drawn views; {config.least} make an update"
        return Tick("update", versions.POLICY, "trained nothing", why_not=why)
    network = Network.of(scorer)
    figures = improve(network, judged, config)
    report = gate.evaluate(network.scorer("candidate"), scorer, config.limits)
    lease.check()
    lineage = {
        "rule": "clipped policy gradient",
        "credited_until": max(episode.credited for episode in judged),
        "figures": figures,
    }
    version = versions.register(
        registry, network, parent=acting.version, lineage=lineage, report=report
    )
    state = "which now serves" if "champion" in version.aliases else "which waits"
    return Tick(
        "update",
        versions.POLICY,
        f"learnt from {len(judged)} judgements and registered {version.ref}, "
        + (state if report.passed else "which the gate refused"),
        why_not=None if report.passed else f"gate: {report.why_not}",
        counts={"version": version.version, "parent": acting.version, **figures},
        seconds=round(time.monotonic() - began, 3),
    )


def _credited_until(registry: PolicyRegistry, database: Database) -> int:
    """Of all versions, passed or not: no judgement is used twice."""
    known = [version.lineage for version in registry.versions(versions.POLICY)]
    until = max((int(lineage.get("credited_until", 0)) for lineage in known), default=0)
    # Older versions say until when judgements had been given.
    given = max((float(lineage.get("judged_until", 0.0)) for lineage in known), default=0.0)
    if until or not given:
        return until
    with database.read() as session:
        query = (
            select(func.max(CreditRow.seq))
            .join(
                ExperienceRow,
                (ExperienceRow.interaction_id == CreditRow.interaction_id)
                & (ExperienceRow.choice == CreditRow.choice),
            )
            .where(ExperienceRow.judged_at <= given)
        )
        return session.scalar(query) or 0
