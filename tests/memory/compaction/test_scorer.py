"""The learned policy: its shipped checkpoint is worth shipping, its arithmetic keeps its word."""

from pathlib import Path

import numpy as np
import pytest
from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import run_sync, score_curve
from burnish.learner.compactor.world_generator import make_world
from burnish.memory.compaction.features import N_FEATURES, first_look
from burnish.memory.compaction.policies.base import CompactionTask, spent
from burnish.memory.compaction.policies.learned import (
    DecisionTrace,
    LearnedPolicy,
)
from burnish.memory.compaction.policies.recent import RecentPolicy
from burnish.memory.compaction.scorer import SHIPPED, Scorer, ScorerError
from burnish.memory.sessions.plan import Action
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

ARENA = Environment(make_world(11, "heldout", horizon=60))


@pytest.fixture(scope="module")
def learned() -> LearnedPolicy:
    return LearnedPolicy()


def task(share: float, question: int = 0) -> CompactionTask:
    return ARENA.task(ARENA.world.questions[question], share)


def test_the_shipped_checkpoint_is_small_and_beats_keeping_the_newest(
    learned: LearnedPolicy,
) -> None:
    assert SHIPPED.stat().st_size < 2_000_000
    assert learned.scorer.parameters < 1_000_000
    environments = [
        Environment(make_world(seed, "heldout", horizon=80, questions=9)) for seed in (70, 71)
    ]
    ours = score_curve(learned.decide_sync, environments, (0.1,))[0]
    newest = score_curve(run_sync(RecentPolicy()), environments, (0.1,))[0]
    assert ours.score >= 0.9
    assert ours.score > newest.score + 0.3
    assert ours.tokens <= 0.1


def afresh(asked: CompactionTask) -> CompactionTask:
    """The same, of candidates that nothing is known of yet."""
    return CompactionTask(list(asked.candidates), asked.query, asked.budget)


@given(share=st.floats(0.0, 1.2), question=st.integers(0, 8), explore=st.booleans())
@settings(max_examples=25)
def test_what_it_keeps_fits_the_budget(share: float, question: int, explore: bool) -> None:
    policy = LearnedPolicy(explore=float(explore), seed=1)
    asked = task(share, question)
    decisions = policy.decide_sync(asked)
    assert len(decisions) == len(asked.candidates)
    assert spent(asked, decisions) <= asked.budget
    assert all(0 <= d.score <= 1 for d in decisions)


def test_with_room_for_everything_everything_stays_whole(learned: LearnedPolicy) -> None:
    decisions = learned.decide_sync(task(3.0))
    assert {d.action for d in decisions} == {Action.KEEP}


async def test_an_empty_log_is_no_trouble(learned: LearnedPolicy) -> None:
    assert await learned.decide(CompactionTask([], "anything", 100)) == []


def test_a_query_that_names_nothing_in_the_log_still_gets_a_full_view(
    learned: LearnedPolicy,
) -> None:
    asked = CompactionTask(ARENA.candidates, "", 600)
    assert spent(asked, learned.decide_sync(asked)) > 400


def test_features_are_finite_and_the_same_for_the_same_task() -> None:
    one, two = first_look(task(0.1)), first_look(afresh(task(0.1)))
    assert one.rows.shape == (len(one.chosen), N_FEATURES)
    assert np.isfinite(one.rows).all()
    np.testing.assert_array_equal(one.rows, two.rows)


def test_greedy_decisions_do_not_depend_on_chance(learned: LearnedPolicy) -> None:
    assert learned.decide_sync(task(0.1)) == LearnedPolicy().decide_sync(task(0.1))


def test_a_drawn_decision_carries_what_an_update_needs_and_no_text() -> None:
    policy = LearnedPolicy(explore=1.0, seed=3)
    drawn = policy.decide_sync(task(0.1))
    trace = DecisionTrace.unpack(drawn.trace)
    assert trace.version == "shipped"
    assert 0 < trace.kept <= 1
    # The log-probabilities are those of these actions on these rows.
    logits = policy.scorer.logits(trace.rows.astype(np.float32))
    every = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    chosen = every[np.arange(len(every)), trace.actions]
    np.testing.assert_allclose(chosen, trace.logp.astype(np.float32), atol=0.02)


def test_a_trace_of_other_features_is_refused() -> None:
    packed = LearnedPolicy(explore=1.0, seed=3).decide_sync(task(0.1))
    head, _, body = packed.trace.partition("\n")
    with pytest.raises(ValueError, match="features"):
        DecisionTrace.unpack(head.replace('"n": ', '"n": 1') + "\n" + body)


def test_a_checkpoint_for_other_features_says_what_to_do(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file(load_file(SHIPPED), other, metadata={"features": "age"})
    with pytest.raises(ScorerError, match="train-compactor"):
        Scorer.load(other)
    other.write_bytes(b"nothing of the kind")
    with pytest.raises(ScorerError, match="not a readable"):
        Scorer.load(other)


def test_rows_of_another_width_are_refused(learned: LearnedPolicy) -> None:
    with pytest.raises(ScorerError, match="rows must be"):
        learned.scorer.logits(np.zeros((2, 3), np.float32))
