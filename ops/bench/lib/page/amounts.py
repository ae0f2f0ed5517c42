"""What a long life of a service leaves behind, put where the service looks: through its own doors where it has one.

A registry of many versions, judgements by many people, the learner's report and fates in Redis, a session of many
steps. Left out: the learner's database, which serving never reads.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import redis
from burnish.feedback import fates
from burnish.feedback.audit import AuditLog
from burnish.feedback.contract import REPORT_PREFIX
from burnish.feedback.fates import Fate
from burnish.learner.report.figures import Comparison, Foreseen, Rate, Report, VersionFigures
from burnish.ops.bench.sessions import Author
from burnish.serving.engine import StubEngine
from burnish.serving.registry import PolicyRegistry, signing_keys

POLICY = "default"
SESSION, USER = "days", "ana"
BATCH = 500  # judgements to a request
STEPS = 250  # of a session to a request
PROMOTED = 400  # of the latest versions: the registry keeps 500 moves of the champion
FAMILIES = ("sums", "lists", "conversions", "look-ups", "tools", "small talk", "JSON", "doubt")


# What the registry's moves left in the data folder: the keys that sign, and who moved what, and why.
BESIDE_REGISTRY = ("signing-key", "audit-key", "audit.log", "audit.head")


def registry_uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def fill_registry(folder: Path, versions: int, votes: int) -> None:
    """Versions of which the latest were promoted, one in seven rolled back again; the last one learnt from all
    votes. A folder that was filled before is left as it is; filling takes some minutes."""
    audit = AuditLog(folder)
    registry = PolicyRegistry(registry_uri(folder), keys=signing_keys(folder), audit=audit)
    registry.ensure_base(POLICY, "stub", StubEngine.model_sha256)
    if registry.champion_version(POLICY) == versions:
        return
    adapter = folder / "adapter"
    adapter.mkdir(exist_ok=True)
    (adapter / "adapter_config.json").write_text("{}")
    for number in range(2, versions + 1):
        (adapter / "adapter_model.safetensors").write_bytes(f"weights {number}".encode())
        learnt = votes if number == versions else 100
        registry.register(
            POLICY,
            adapter,
            parent=number - 1,
            lineage={
                "feedback_ids": [f"local/vote-{n:06}" for n in range(learnt)],
                "rule": "reward_model",
                "steps": 40,
                "seconds": 300,
            },
            gate_report=_gate(number),
            metrics={
                "gate_skill": 0.6 + number % 50 / 200,
                "gate_base_skill": 0.6,
                "kl": 0.01 * (number % 30),
            },
        )
        if number <= versions - PROMOTED:
            continue
        registry.promote(POLICY, number, who="learner", why="it passed the gate")
        if number % 7 == 0:
            registry.rollback(POLICY, who="ann", why="answers became curt")
            registry.promote(POLICY, number, who="ann", why="it was the prompt")


def _gate(number: int) -> dict[str, Any]:
    checks = [
        {"name": name, "value": 0.01, "passed": True, "says": f"{name}: no worse than the base"}
        for name in FAMILIES
    ]
    families = {name: [0.6, 0.6 + number % 30 / 100] for name in FAMILIES}
    return {"passed": True, "checks": checks, "families": families, "skill": 0.7, "asked": {}}


def fill_votes(client: httpx.Client, votes: int, people: int = 100) -> None:
    """Thumbs on answers of this service, each answer judged by `people` of their own."""
    given = 0
    while given < votes:
        answer = client.post(
            "/v1/chat/completions",
            json={
                "model": POLICY,
                "messages": [{"role": "user", "content": "Hi"}],
                "max_tokens": 1,
            },
        )
        interaction = answer.raise_for_status().json()["id"]
        for start in range(0, min(people, votes - given), BATCH):
            batch = [
                {
                    "id": f"vote-{given + n:06}",
                    "interaction_id": interaction,
                    "user": f"user-{given + n}",
                    "name": "thumbs",
                    "value": "up" if n % 3 else "down",
                }
                for n in range(start, min(start + BATCH, people, votes - given))
            ]
            client.post("/v1/feedback", json=batch).raise_for_status()
        given += min(people, votes - given)


def fill_learner(redis_url: str, versions: int, votes: int) -> None:
    """The learner's report, and the fate of each vote."""
    each = votes / versions
    figures = [_figures(number, each) for number in range(1, versions + 1)]
    first, now = figures[0].liked, figures[-1].liked
    assert first is not None
    assert now is not None
    low, high = now.minus(first)
    report = Report(
        policy=POLICY,
        at=time.time(),
        state="made up",
        answers=votes,
        votes=votes,
        people=votes,
        updates=versions,
        verdict="learning",
        versions=figures,
        comparison=Comparison(
            first=1, latest=[versions], before=first, now=now, low=low, high=high, outcome="more"
        ),
    )
    at = time.time()
    fate = Fate(policy=POLICY, joined_at=at, weighed_at=at, weight=1.0, version=versions, passed=True)  # fmt: skip
    with redis.Redis.from_url(redis_url) as client:
        client.set(REPORT_PREFIX + POLICY, report.model_dump_json())
        fates.tell(client, {f"vote-{n:06}": fate for n in range(votes)})


def _figures(number: int, votes: float) -> VersionFigures:
    share = 0.5 + 0.3 * number / 1000
    observed = Rate.of(round(share * votes), votes)
    foreseen = Foreseen(foreseen=share, observed=share, gap=0.0, votes=votes, people=50, fitted_to=500)  # fmt: skip
    return VersionFigures(
        version=number, liked=observed, enough=True, people=50, foreseen=foreseen, answers=round(votes)
    )  # fmt: skip


def fill_session(client: httpx.Client, steps: int) -> None:
    author = Author()
    at = f"/v1/memory/sessions/{SESSION}"
    written: Sequence[dict[str, str]] = [author.step(place) for place in range(steps)]
    for start in range(0, steps, STEPS):
        body = {"events": written[start : start + STEPS], "user": USER}
        client.post(f"{at}/events", json=body).raise_for_status()
    client.post(f"{at}/compact", json={"policy": "bm25", "budget": 20_000}).raise_for_status()
