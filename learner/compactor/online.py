"""The compactor kept current: feedback on answers given from a compacted view is its reward.

An interaction names the memory view it was answered from; where the plan behind it was drawn by the
learned policy, Redis still holds the draw (features, choices, log-probabilities). Joined with the
reward of the answer that makes an episode: reward minus lambda times the share of tokens kept. The
step is a clipped importance-weighted policy gradient (PPO, arXiv 1707.06347) against the mean of the
other episodes, beside imitation on practice worlds, so that a taste of few users costs no skill.
The gate decides; what was learnt until when stands in the version's lineage.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import redis
import torch
from burnish.learner.compactor import gate, versions
from burnish.learner.compactor.network import Network, pad
from burnish.learner.compactor.practice import Example, examples
from burnish.learner.compactor.training import imitation_loss
from burnish.learner.database import Database, ExperienceRow, InteractionRow
from burnish.learner.intake.joining import standing_judgements
from burnish.learner.lease import Lease, LeaseHeld
from burnish.learner.reward.experience import rewards_of
from burnish.learner.settings import LearnerSettings
from burnish.learner.ticks import Tick, publish
from burnish.memory.compaction.policies.learned import Trace
from burnish.memory.sessions.keys import SessionKeys
from burnish.memory.sessions.plan import trace_of
from burnish.serving.registry import PolicyRegistry, PolicyVersion
from sqlalchemy import select

LOOKED_AT = 4096  # latest judged answers


@dataclass(frozen=True)
class Terms:
    """How an update is made."""

    least: int = 16  # new episodes that make one worth it
    steps: int = 12
    rate: float = 2e-4
    clip: float = 0.2  # of the importance ratio, per unit
    lam: float = 0.5  # what a share of tokens costs, in reward
    practice: int = 4  # worlds beside, per update
    seed: int = 0
    limits: gate.Limits = field(default_factory=gate.Limits)


@dataclass(frozen=True)
class Episode:
    """One judged answer and the draw of the view it was given from."""

    trace: Trace
    reward: float  # in [-1, 1]
    weight: float
    judged_at: float


def episodes(database: Database, client: redis.Redis, since: float) -> list[Episode]:
    """Judged after `since`, oldest first. Those whose plan is gone or was not drawn are left out."""
    query = (
        select(ExperienceRow, InteractionRow)
        .join(InteractionRow, InteractionRow.id == ExperienceRow.interaction_id)
        .where(
            ExperienceRow.judged_at > since,
            InteractionRow.session_id.is_not(None),
        )
        .order_by(ExperienceRow.judged_at.desc())
        .limit(LOOKED_AT)
    )
    found: list[Episode] = []
    with database.read() as session:
        rows = [(row, view) for row, at in session.execute(query) if (view := _view(at))]
        answers = [(row.interaction_id, row.choice) for row, _ in rows]
        standing = standing_judgements(session, answers)
        rewards, _ = rewards_of([standing[answer] for answer in answers])
        for (row, view), reward in zip(rows, rewards, strict=True):
            keys = SessionKeys(row.tenant, view["session"])
            packed = client.hget(keys.verdicts, view["plan"])
            trace = trace_of(_text(packed)) if packed else ""
            if trace and reward is not None:
                episode = Episode(Trace.unpack(trace), reward.value, reward.weight, row.judged_at)
                found.append(episode)
    return found[::-1]


def _view(interaction: InteractionRow) -> dict | None:
    """The memory view it was answered from, where a plan was in force."""
    view = interaction.meta.get("memory")
    if not isinstance(view, dict) or not view.get("plan") or not view.get("session"):
        return None
    return view


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def improve(network: Network, judged: Sequence[Episode], terms: Terms) -> dict[str, float]:
    """Some steps on `network`, in place; what they were like."""
    torch.manual_seed(terms.seed)
    scorer = network.scorer()
    beside = [e for w in range(terms.practice) for e in examples(scorer, terms.seed + w)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=terms.rate)
    returns = np.array([e.reward - terms.lam * e.trace.kept for e in judged], np.float32)
    others = (returns.sum() - returns) / max(len(returns) - 1, 1)
    weights = np.array([e.weight for e in judged], np.float32)
    advantage = torch.from_numpy((returns - others) * weights)
    rows, mask = pad([episode.trace.rows.astype(np.float32) for episode in judged])
    actions, before = torch.zeros(mask.shape, dtype=torch.long), torch.zeros(mask.shape)
    for i, episode in enumerate(judged):
        n = len(episode.trace.actions)
        actions[i, :n] = torch.from_numpy(episode.trace.actions.astype(np.int64))
        before[i, :n] = torch.from_numpy(episode.trace.logp.astype(np.float32))
    rng, figures = np.random.default_rng(terms.seed), {}
    for _ in range(terms.steps):
        logp = network(rows, mask).log_softmax(-1).gather(-1, actions[..., None])[..., 0]
        ratio = (logp - before).clamp(-5, 5).exp()
        held = ratio.clamp(1 - terms.clip, 1 + terms.clip)
        gain = torch.minimum(ratio * advantage[:, None], held * advantage[:, None])
        loss = -(gain * mask).sum(1).mean()
        if beside:
            picked = rng.choice(len(beside), size=min(12, len(beside)), replace=False)
            batch: list[Example] = [beside[i] for i in picked]
            loss = loss + imitation_loss(network, batch, slice(None))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        figures = {"loss": float(loss.detach()), "ratio": float(ratio[mask > 0].mean().detach())}
    return {**figures, "episodes": float(len(judged)), "reward": float(returns.mean())}


def tick(settings: LearnerSettings, database: Database, terms: Terms | None = None) -> Tick | None:
    """One update of the compactor; None when another process is at it."""
    client = redis.Redis.from_url(settings.redis_url)
    lease = Lease(client, f"update:{versions.POLICY}", settings.lease_seconds, database=database)
    try:
        with lease:
            told = _update(settings, database, client, terms or Terms(seed=settings.seed), lease)
    except LeaseHeld:
        return None
    if told.why_not is None or "version" in told.counts:
        publish(client, told)  # most services compact by other policies: no line for nothing
    return told


def _update(
    settings: LearnerSettings,
    database: Database,
    client: redis.Redis,
    terms: Terms,
    lease: Lease,
) -> Tick:
    began = time.monotonic()
    registry = PolicyRegistry(settings.registry, settings.mlflow_artifacts, who="learner")
    acting, scorer = versions.champion(registry, settings.data_dir / "fetched")
    judged = episodes(database, client, since=_learnt_until(registry))
    if len(judged) < terms.least:
        why = f"{len(judged)} new judgements on drawn views; {terms.least} make an update"
        return Tick("update", versions.POLICY, "trained nothing", why_not=why)
    network = Network.of(scorer)
    figures = improve(network, judged, terms)
    report = gate.examine(network.scorer("candidate"), scorer, terms.limits)
    lease.check()
    lineage = {
        "rule": "clipped policy gradient",
        "judged_until": max(episode.judged_at for episode in judged),
        "figures": figures,
    }
    version = versions.register(
        registry, network, parent=acting.version, lineage=lineage, report=report
    )
    fate = "which now serves" if "champion" in version.aliases else "which waits"
    return Tick(
        "update",
        versions.POLICY,
        f"learnt from {len(judged)} judgements and registered {version.ref}, "
        + (fate if report.passed else "which the gate refused"),
        why_not=None if report.passed else f"gate: {report.why_not}",
        counts={"version": version.version, "parent": acting.version, **figures},
        seconds=round(time.monotonic() - began, 3),
    )


def _learnt_until(registry: PolicyRegistry) -> float:
    """Of all versions, passed or not: what was learnt from once is not learnt from again."""
    known: list[PolicyVersion] = registry.versions(versions.POLICY)
    return max((float(v.lineage.get("judged_until", 0.0)) for v in known), default=0.0)
