"""Is a version that was rebuilt after an erasure one that never saw the erased user?

A crowd votes on the shipped model's answers and an update learns from it. One of them is erased by the product's own
code, and the policy is rebuilt from the base as the next tick does it. Beside it stand versions of a log in
which they never were, each trained with another seed: as far as these are from one another, in nats per token, the
rebuilt one may be from them.
"""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from burnish.kernels.lora import AdapterWeights
from burnish.learner.intake.erasure import erase_user
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks.ember import FAMILIES, STYLES, sample
from burnish.learner.training.batching import token_logprobs
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import SCORING_SLOT
from burnish.ops.bench.lib.learning_loop import TENANT, LearningLoop, Vote
from burnish.ops.bench.lib.liking import liking
from burnish.ops.simulate.population import draw_population

ANSWER_TOKENS = 96
ASKED = 4  # held-out tasks of each family that tell two versions apart


def compare(votes: int, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    """What `compared` finds, in folders that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="burnish-unlearning-") as scratch:
        return compared(Path(scratch), votes, steps, seeds)


def compared(scratch: Path, votes: int, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Nats per token, each pair's both ways and their mean: between versions that never saw the user, and
    from the rebuilt one to these; for comparison from the one that had seen them."""
    cast = votes_of_a_crowd(new_loop(scratch / "asked", seed=0, steps=1), votes)
    erased = cast[0].user
    saw = new_loop(scratch / "saw", seed=0, steps=steps)
    saw.judge(cast)
    before = saw.update().adapter
    with saw.learner.database.write() as session:
        gone = erase_user(session, TENANT, erased, time.time())
    rebuilt = saw.update(anew=True).adapter
    never = [never_saw(scratch / str(seed), cast, erased, seed, steps) for seed in seeds]
    apart = [between(saw, a, b) for a, b in itertools.combinations(never, 2)]
    return {
        "votes": len(cast),
        "votes_of_the_erased": sum(vote.user == erased for vote in cast),
        "judgements_erased": gone.judgements,
        "seeds": list(seeds),
        "between_seeds": rounded(apart),
        "rebuilt_to_never_saw": rounded([between(saw, rebuilt, other) for other in never]),
        "had_seen_to_never_saw": rounded([between(saw, before, other) for other in never]),
    }


def never_saw(
    folder: Path, cast: Sequence[Vote], erased: str, seed: int, steps: int
) -> AdapterWeights:
    """What an update makes of the votes of all the others."""
    loop = new_loop(folder, seed, steps)
    loop.judge([vote for vote in cast if vote.user != erased])
    return loop.update().adapter


def new_loop(folder: Path, seed: int, steps: int) -> LearningLoop:
    settings = LearnerSettings(
        model=Path(__file__).parents[2] / "ember",
        seed=seed,
        data_dir=folder,
        update_steps=steps,
        update_seconds=1e6,  # by steps alone, so that all take as many
    )
    torch.set_num_threads(settings.threads)
    return LearningLoop(settings)


def votes_of_a_crowd(loop: LearningLoop, count: int) -> list[Vote]:
    """As many of each of 50 people, on answers of the base."""
    rng = random.Random("unlearning")
    people = draw_population(families=list(FAMILIES), styles=STYLES, malicious=0.0, judged=1.0)
    tasks = [sample(rng) for _ in range(count)]
    answers = loop.answer(tasks, max_tokens=ANSWER_TOKENS, seed=rng.getrandbits(30), adapter=None)
    return [
        Vote(answer, user.id, people.votes(user, liking(people, user, answer), rng)[-1])
        for number, [answer] in enumerate(answers)
        for user in [people.users[number % len(people.users)]]
    ]


def between(loop: LearningLoop, one: AdapterWeights, other: AdapterWeights) -> float:
    return (divergence(loop, one, other) + divergence(loop, other, one)) / 2


def divergence(loop: LearningLoop, ours: AdapterWeights, theirs: AdapterWeights) -> float:
    """KL(ours, theirs) in nats per token, estimated on answers of ours (Schulman's k3 estimator)."""
    heldout = random.Random("unlearning:heldout")
    tasks = [sample(heldout, family, "heldout") for family in FAMILIES for _ in range(ASKED)]
    engine, model = loop.learner.engine, loop.learner.model
    engine.set_adapter_weights("ours", ours)
    answers = loop.answer(tasks, max_tokens=ANSWER_TOKENS, seed=7, adapter="ours")
    engine.unload_adapter("ours")
    rollouts: list[Rollout] = [given.rollout for [given] in answers if given.rollout.token_ids]
    model.set_adapter(SCORING_SLOT, theirs)
    try:
        scored = token_logprobs(model, rollouts, SCORING_SLOT)
    finally:
        model.set_adapter(SCORING_SLOT, None)
    ratios = torch.tensor(
        [
            b - a
            for rollout, of in zip(rollouts, scored, strict=True)
            for a, b in zip(rollout.logprobs, of, strict=True)
        ],
        dtype=torch.float64,
    ).clamp(max=10.0)
    return float((ratios.exp() - 1 - ratios).mean())


def rounded(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": round(statistics.mean(values), 5), "all": [round(v, 5) for v in values]}
