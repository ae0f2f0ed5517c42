"""Quality of compaction: score against tokens kept, needles and variables, repeated compaction.

On held-out worlds (words never trained on), also at ten times the training horizon. The question is
the query, as an agent's next prompt would be; the reader is learner/compactor/reader.py, which
answers every question from the full log. Views apply the policies' decisions as the store does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.learner.compactor import reader
from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.evaluation import BudgetPoint, least_budget
from burnish.learner.compactor.ruler_worlds import needles, variables
from burnish.learner.compactor.world import Count, WorldQuestion
from burnish.learner.compactor.world_generator import HORIZON, make_world
from burnish.memory import MemoryStore
from burnish.memory.compaction import (
    Action,
    CompactionPolicy,
    CompactionTask,
    build_summaries,
    spent,
)

LogProgress = Callable[[str], None]
LONG = 10 * HORIZON


async def curves(
    policies: Sequence[CompactionPolicy],
    environments: Sequence[Environment],
    shares: Sequence[float],
    log_progress: LogProgress,
) -> dict[str, list[BudgetPoint]]:
    """By policy: one point per share of tokens."""
    found: dict[str, list[BudgetPoint]] = {}
    for policy in policies:
        points = []
        for share in shares:
            done = [
                await evaluate_question(
                    policy, environment, question, environment.task(question, share)
                )
                for environment in environments
                for question in environment.world.questions
            ]
            right, used = zip(*done, strict=True)
            points.append(BudgetPoint(share, sum(right) / len(right), sum(used) / len(used)))
        found[policy.name] = points
        log_progress(f"{policy.name}: " + "  ".join(f"{p.share:.0%} {p.score:.3f}" for p in points))
    return found


async def evaluate_question(
    policy: CompactionPolicy,
    environment: Environment,
    question: WorldQuestion,
    task: CompactionTask,
) -> tuple[bool, float]:
    """(answered correctly, the view's share of the log's tokens, summaries included)"""
    decisions = await policy.decide(task)
    messages = list(environment.messages(decisions))
    tokens = environment.tokens(decisions)
    pairs = zip(task.candidates, decisions, strict=True)
    summarised = [c.unit for c, d in pairs if d.action is Action.SUMMARISE]
    if summarised:
        nodes = await build_summaries(
            summarised, task.budget - spent(task, decisions), environment.price, None, {}
        )
        tokens += sum(node.tokens for node in nodes)
        for node in nodes:
            # Extracted lines carry their step's cursor, by which the reader orders them.
            for line in node.text.splitlines():
                place, _, text = line.partition(": ")
                cursor = place.split()[0] if place else "0"
                messages.append({"role": "user", "content": text, "cursors": [cursor]})
    return reader.answer(
        question.text, messages
    ) == question.answer, tokens / environment.world.tokens


def worlds(first: int, n: int, horizon: int, questions: int) -> list[Environment]:
    return [
        Environment(make_world(seed, "heldout", horizon=horizon, questions=questions))
        for seed in range(first, first + n)
    ]


def least_shares(found: Mapping[str, Sequence[BudgetPoint]]) -> dict[str, float | None]:
    """By policy: the smallest share that keeps 98 % of the score; None: outside the range."""
    return {name: least_budget(points) for name, points in found.items()}


async def ruler(
    policies: Sequence[CompactionPolicy],
    tokens: int,
    budget: int,
    count: Count,
    seeds: Sequence[int],
) -> dict[str, dict[str, float]]:
    """By policy: share of needles and of variable chains answered, at `budget` of `tokens`."""
    found: dict[str, dict[str, float]] = {}
    for kind, make in (("needles", needles), ("variables", variables)):
        environments = [Environment(make(seed, tokens, count), count) for seed in seeds]
        for policy in policies:
            done = []
            for environment in environments:
                remaining = budget - sum(step.tokens for step in environment.floor)
                for question in environment.world.questions:
                    task = CompactionTask(environment.candidates, question.text, remaining)
                    done.append((await evaluate_question(policy, environment, question, task))[0])
            found.setdefault(policy.name, {})[kind] = sum(done) / len(done)
    return found


async def recompactions(
    store: MemoryStore,
    policies: Sequence[str],
    seeds: Sequence[int],
    times: int = 10,
    share: float = 0.3,
) -> dict[str, dict[str, int]]:
    """Facts lost by compacting a growing log `times` times instead of once at its end.

    Through the store, without a query; then every question is asked at the same budget. By policy:
    number of facts asked for, kept by one compaction, and of these lost by `times`.
    """
    found: dict[str, dict[str, int]] = {}
    for policy in policies:
        asked = kept = lost = again = 0
        for seed in seeds:
            world = make_world(seed, "heldout")
            budget = int(share * world.tokens)
            events = [to_event(step) for step in world.steps]
            once, often = (f"{policy}-{seed}-{uuid.uuid4().hex[:6]}" for _ in range(2))
            await append_all(store, once, events)
            await store.compaction.compact("bench", once, policy, budget)
            for at in slices(events, times):
                await append_all(store, often, events[at[0] : at[1]])
                await store.compaction.compact("bench", often, policy, budget)
            for question in world.questions:
                one, ten = [
                    reader.answer(
                        question.text,
                        (await store.context("bench", name, budget, question.text))["messages"],
                    )
                    == question.answer
                    for name in (once, often)
                ]
                asked, kept, again = asked + 1, kept + one, again + ten
                lost += one and not ten
        found[policy] = {
            "asked": asked,
            "kept_by_one": kept,
            f"kept_by_{times}": again,
            f"lost_by_{times}": lost,
        }
    return found


def slices(events: Sequence[Mapping[str, Any]], times: int) -> list[tuple[int, int]]:
    """Equal slices that do not separate a tool call from its result."""
    marks = [0]
    for piece in range(1, times):
        at = len(events) * piece // times
        while events[at]["role"] == "tool":
            at += 1
        marks.append(at)
    return list(zip(marks, [*marks[1:], len(events)], strict=True))


def to_event(step: Any) -> dict[str, Any]:
    event = {"id": step.id, **step.message()}
    return event | ({"kind": step.kind} if step.kind == "task" else {})


async def append_all(
    store: MemoryStore, session: str, events: Sequence[Mapping[str, Any]], batch: int = 50
) -> None:
    for at in range(0, len(events), batch):
        await store.append("bench", session, events[at : at + batch])
