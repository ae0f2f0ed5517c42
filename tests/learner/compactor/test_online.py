"""From a session on a real Redis to a version in a real registry: feedback moves the compactor."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import redis
import torch
from burnish.feedback.events import MemoryUsed, encode
from burnish.feedback.stream.redis_stream import RedisStream
from burnish.learner.compactor import online, reader, versions
from burnish.learner.compactor.gate import CompactorGateLimits, CompactorGateReport, evaluate
from burnish.learner.compactor.network import Network
from burnish.learner.compactor.world import rough_count
from burnish.learner.compactor.world_generator import make_world
from burnish.learner.database import Database
from burnish.learner.intake.consume import consume
from burnish.learner.intake.upsert import upsert
from burnish.learner.lease import Lease
from burnish.learner.settings import LearnerSettings
from burnish.memory import MemoryStore, connect
from burnish.memory.compaction import (
    POLICY,
    CompactionPolicies,
    DecisionTrace,
    LearnedPolicy,
    Scorer,
)
from burnish.serving.live import LiveCompactor
from burnish.serving.registry import PolicyRegistry, signing_keys

from tests.learner.conftest import START, interaction, thumbs

CONFIG = online.OnlineUpdateConfig(
    least=4, steps=2, imitation_worlds=0, limits=CompactorGateLimits(worlds=1)
)


async def judged_sessions(url: str, stream: RedisStream, questions: int = 6) -> int:
    """A session compacted for each question by drawn decisions; answers are judged by the reader.
    How many answers were right."""
    client, right = connect(url), 0
    store = MemoryStore(
        client, rough_count, policies=CompactionPolicies([LearnedPolicy(explore=1.0, seed=5)])
    )
    world = make_world(31, horizon=50)
    events = [
        {"id": s.id, **s.message(), **({"kind": "task"} if s.kind == "task" else {})}
        for s in world.steps
    ]
    for number, question in enumerate(world.questions[:questions], 1):
        session = f"s{number}"
        for at in range(0, len(events), 50):
            await store.append("local", session, events[at : at + 50])
        done = await store.compaction.compact(
            "local", session, "learned", world.tokens // 5, query=question.text
        )
        plan = done.plan
        shown = (await store.context("local", session, world.tokens // 5))["messages"]
        correct = reader.answer(question.text, shown) == question.answer
        right += correct
        used = MemoryUsed(session=session, version=done.version, plan=plan.id, cursors=[])
        stream.publish(
            [
                encode(interaction(number, session_id=session, memory=used)),
                encode(thumbs(number, "up" if correct else "down")),
            ]
        )
    await client.aclose()
    return right


async def test_feedback_on_answers_from_drawn_views_becomes_a_gated_version(
    redis_url: str,
    redis_client: redis.Redis,
    stream: RedisStream,
    sqlite: Database,
    tmp_path: Path,
) -> None:
    await judged_sessions(redis_url, stream)
    with Lease(redis_client, "intake", 30.0, database=sqlite) as lease:
        consume(sqlite, stream, lease)
    found = online.episodes(sqlite, redis_client)
    assert len(found) == 6
    assert all(abs(episode.reward) == pytest.approx(1) for episode in found)
    assert all(episode.trace.version == "shipped" for episode in found)

    settings = LearnerSettings(redis_url=redis_url, data_dir=tmp_path)
    tick = online.update_compactor(settings, sqlite, CONFIG)
    assert tick is not None
    assert "learnt from 6 judgements and registered compactor@2" in tick.did
    registry = PolicyRegistry(settings.registry, keys=signing_keys(tmp_path))
    version = registry.get(POLICY, 2)
    assert version.parent == 1
    assert version.gate_report is not None
    assert registry.champion_version(POLICY) == (2 if version.gate_report["passed"] else 1)
    assert POLICY not in registry.policies()  # no model that anyone could chat with

    # What was learnt from once is not learnt from again.
    again = online.update_compactor(settings, sqlite, CONFIG)
    assert again is not None
    assert again.did == "trained nothing"

    # Late feedback, given before the update and heard after it, is learnt from all the same.
    late = thumbs(1, "down", on=1, id="late", time=START + timedelta(seconds=1), user="bob")
    with sqlite.write() as session:
        upsert(session, [late])
    after = max(episode.credited for episode in found)
    (heard,) = online.episodes(sqlite, redis_client, after)
    assert heard.credited > after

    # Trust is that of all judgements: whoever clicks elsewhere faster than people read is not heard.
    with sqlite.write() as session:
        for number in range(7, 40):
            upsert(session, [interaction(number), thumbs(number)])
    assert [one.credited for one in online.episodes(sqlite, redis_client)] == [heard.credited]

    # Serving takes it up, and goes back with the alias.
    registry.promote(POLICY, 2)
    live = LiveCompactor(registry, tmp_path / "adapters")
    await live.poll()
    assert (live.problem, live.policy.scorer.version) == (None, "compactor@2")
    registry.rollback(POLICY)
    await live.poll()
    assert live.policy.scorer.version == "shipped"


async def test_a_registry_that_is_away_leaves_the_shipped_scorer_in_place(tmp_path: Path) -> None:
    live = LiveCompactor(
        _Away(f"sqlite:///{tmp_path}/mlflow.db", keys=signing_keys(tmp_path)), tmp_path
    )
    await live.poll()
    assert live.problem == "away"
    assert live.policy.scorer.version == "shipped"


class _Away(PolicyRegistry):
    def champion_version(self, policy: str) -> int | None:
        from burnish.serving.registry import RegistryError

        raise RegistryError("away")


def episode(action: int, reward: float, rows: np.ndarray, logp: np.ndarray) -> online.Episode:
    n = len(rows)
    actions = np.full(n, action, np.uint8)
    chosen = logp[np.arange(n), action]
    trace = DecisionTrace(
        "shipped", 0.1, rows.astype(np.float16), actions, chosen.astype(np.float16)
    )
    return online.Episode(trace, reward, 1.0, 0)


def test_an_update_makes_rewarded_choices_likelier() -> None:
    network = Network.of(Scorer.load())
    rows = np.random.default_rng(0).normal(0.3, 0.3, (5, len(network.mean))).astype(np.float32)
    inputs, mask = torch.from_numpy(rows)[None], torch.ones(1, 5)
    with torch.no_grad():
        before = network(inputs, mask).log_softmax(-1)[0].numpy()
    judged = [episode(2, 1.0, rows, before), episode(0, -1.0, rows, before)]
    figures = online.improve(
        network, judged, online.OnlineUpdateConfig(steps=4, imitation_worlds=0)
    )
    with torch.no_grad():
        after = network(inputs, mask).log_softmax(-1)[0].numpy()
    assert figures["episodes"] == 2
    assert after[:, 2].mean() > before[:, 2].mean()
    assert after[:, 0].mean() < before[:, 0].mean()


def test_the_gate_refuses_a_scorer_that_keeps_the_wrong_things() -> None:
    shipped = Scorer.load()
    spoilt = Scorer({**shipped.weights, "out.weight": -shipped.weights["out.weight"]}, "spoilt")
    report: CompactorGateReport = evaluate(spoilt, shipped, CompactorGateLimits(worlds=1))
    assert not report.passed
    assert "against the champion" in (report.why_not or "")
    assert "by BM25" in (report.why_not or "")
    passed = evaluate(shipped, shipped, CompactorGateLimits(worlds=1))
    assert passed.passed
    floors = [check.name for check in passed.checks if "BM25" in check.name]
    assert len(floors) == 9  # worlds, talk and assistant, at three shares of the tokens


def test_bm25_is_a_floor_even_under_a_champion_that_is_worse() -> None:
    shipped = Scorer.load()
    spoilt = Scorer({**shipped.weights, "out.weight": -shipped.weights["out.weight"]}, "spoilt")
    report = evaluate(spoilt, spoilt, CompactorGateLimits(worlds=1))
    assert not report.passed
    assert "against the champion" not in (report.why_not or "")


def test_a_trained_checkpoint_may_become_the_shipped_one_only_if_it_loads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a readable"):
        versions.ship(tmp_path / "nothing", tmp_path / "to")
