"""A second reader: the shipped model answers from what a policy keeps of a short log.

Its skill is looking up facts among a few notes, so the log consists of such notes, one per step, of
which the policy keeps a fraction. "everything" is its score with all notes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

from burnish.learner.compactor.environment import Environment
from burnish.learner.compactor.world import Count, LogBuilder, World, WorldQuestion
from burnish.learner.tasks.ember import Exercise, is_correct, sample
from burnish.memory.compaction import CompactionPolicy
from burnish.serving.api.chat_template import render
from burnish.serving.engine import LocalEngine, Request, SamplingParams

NOTES, KEPT, QUESTIONS = 16, 0.4, 60


def second_reader(
    engine: LocalEngine,
    policies: Sequence[CompactionPolicy],
    count: Count,
    questions: int = QUESTIONS,
) -> dict[str, float]:
    """Share of questions answered correctly, by policy and with everything kept."""
    logs = [_log(seed, count) for seed in range(questions)]
    found: dict[str, float] = {}
    for policy in (None, *policies):
        prompts = []
        for environment, _ in logs:
            question = environment.world.questions[0]
            notes = [step.content for step in environment.world.steps]
            if policy is not None:
                messages = asyncio.run(_decide(policy, environment, question))
                notes = [str(message["content"]) for message in messages]
            text = "Known facts:\n" + "\n".join(f"- {note}" for note in notes)
            prompts.append(
                [{"role": "system", "content": text}, {"role": "user", "content": question.text}]
            )
        requests = [
            Request(
                id=f"second-{i}",
                prompt_ids=render(engine.tokenizer, messages, None, thinking=False).ids,
                params=SamplingParams(max_tokens=32, temperature=0.0, seed=i),
                adapter=None,
            )
            for i, messages in enumerate(prompts)
        ]
        done = engine.generate_batch(requests)
        right = [is_correct(log[1], one.text) for log, one in zip(logs, done, strict=True)]
        found[policy.name if policy else "everything"] = sum(right) / len(right)
    return found


def load(model: Path, threads: int = 2) -> LocalEngine:
    return LocalEngine(model, max_running=16, max_model_len=768, threads=threads)


async def _decide(
    policy: CompactionPolicy, environment: Environment, question: WorldQuestion
) -> list:
    return list(environment.messages(await policy.decide(environment.task(question, KEPT))))


def _log(seed: int, count: Count) -> tuple[Environment, Exercise]:
    """NOTES facts about different subjects in random order, and the exercise about one of them."""
    rng = Random(f"second/{seed}")
    while True:
        exercise = sample(rng, "lookup", "heldout")
        notes = _notes(exercise)
        fact = next((n for n in notes if exercise.answer in n.rstrip(".").split()), None)
        if fact is None:
            continue
        about = set(fact.rstrip(".").split()) - {exercise.answer}
        while len(notes) < NOTES:
            for note in _notes(sample(rng, "lookup", "heldout")):
                if not about <= set(note.rstrip(".").split()):
                    notes.append(note)
        rng.shuffle(notes)
        log = LogBuilder(rng, count)
        for note in notes[:NOTES]:
            log.say("user", note)
        if fact not in notes[:NOTES]:
            continue
        asked = exercise.messages[-1]["content"].split(". ")[-1]
        question = WorldQuestion("lookup", asked, exercise.answer, (notes.index(fact) + 1,))
        return Environment(World(seed, tuple(log.steps), (question,)), count), exercise


def _notes(exercise: Exercise) -> list[str]:
    """The statements of a look-up exercise, without its question."""
    text = " ".join(m["content"] for m in exercise.messages if m["role"] != "assistant")
    parts = [part.strip().lstrip("- ") for part in text.replace("\n", ". ").split(". ")]
    return [p.rstrip(".") + "." for p in parts if p and "?" not in p and ":" not in p]
