"""A policy that learns from votes, in one process: answers, judgements, updates, versions.

The learner's own code does it all, on the learner's own database: what is judged is written as events,
as the intake would write them, and an update reads, weighs and trains as in an update tick. Left out:
HTTP, stream, lease and registry. A version serves here whether or not the gate would let it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import typer
from burnish.feedback.events import Completion, Event, FeedbackEvent, InteractionEvent
from burnish.kernels.lora import AdapterWeights
from burnish.learner.gate.answers import BASE as BASE_ANSWERS
from burnish.learner.gate.answers import CANDIDATE, CHAMPION
from burnish.learner.gate.checks import mean
from burnish.learner.gate.gate import evaluate
from burnish.learner.gate.report import GateReport
from burnish.learner.intake.upsert import upsert
from burnish.learner.settings import LearnerSettings
from burnish.learner.training.checkpoint import Checkpoint, TrainingProgress
from burnish.learner.training.prompts import Chat, task_prompt
from burnish.learner.training.rollouts import Rollout
from burnish.learner.update.data import load_training_data
from burnish.learner.update.loop import train
from burnish.learner.update.start import TrainingStart, fresh_adapter, next_start
from burnish.learner.update.tick import Learner
from burnish.serving.engine import Request, SamplingParams
from burnish.serving.reward.reward_model import RewardModel

POLICY, LOG, TENANT = "bench", "log", "bench"
BASE = 1  # its version
BEGAN = datetime(2026, 1, 5, 9, tzinfo=UTC)  # of the simulated votes


@dataclass(frozen=True)
class Answer:
    """An answer to a prompt, as a version gave it."""

    prompt: Chat
    rollout: Rollout
    finish_reason: str
    version: int = BASE

    @property
    def text(self) -> str:
        return self.rollout.text


@dataclass(frozen=True)
class Vote:
    """Thumbs; with a correction, that alone: what the user would rather have read."""

    answer: Answer
    user: str
    up: bool
    correction: str | None = None
    tenant: str = TENANT


@dataclass(frozen=True)
class Skill:
    """The share right of the gate's first questions, a mean over families: a version's and the base's."""

    version: float
    base: float
    questions: int


class LearningLoop:
    """`version` numbers the one that answers: 1 is the base, and each update adds one."""

    def __init__(self, settings: LearnerSettings) -> None:
        self.learner = Learner(settings)
        self.learner.database.migrate()
        self.settings = settings
        self.version = 1
        self.votes: list[Vote] = []
        self.trained: Checkpoint | None = None

    @property
    def adapter(self) -> str | None:
        """The present version's name in the engine; None is the base."""
        return f"{POLICY}@{self.version}" if self.trained else None

    @property
    def reward(self) -> RewardModel | None:
        """The one that the present version was published with."""
        return RewardModel.load(self.trained.rule_state) if self.trained else None

    def answer(
        self,
        prompts: Sequence[Chat],
        *,
        samples: int = 1,
        max_tokens: int,
        seed: int,
        adapter: str | None,
    ) -> list[list[Answer]]:
        """`samples` answers to each prompt, at temperature 1; of the base where no adapter is named."""
        asked = [prompt for prompt in prompts for _ in range(samples)]
        requests = [
            Request(
                id=str(number),
                prompt_ids=task_prompt(self.learner.model, prompt),
                params=SamplingParams(max_tokens=max_tokens, seed=seed + number),
                adapter=adapter,
            )
            for number, prompt in enumerate(asked)
        ]
        completions = self.learner.engine.generate_batch(requests)
        version = BASE if adapter is None else self.version
        given = [
            Answer(prompt, Rollout.of(request, completion), completion.finish_reason, version)
            for prompt, request, completion in zip(asked, requests, completions, strict=True)
        ]
        return [given[at : at + samples] for at in range(0, len(given), samples)]

    def judge(self, votes: Sequence[Vote]) -> None:
        """Store answers and the votes on them, spread evenly over the time between two updates."""
        self._store(votes, POLICY, self.version, len(self.votes))
        self.votes += votes

    def keep_log(self, votes: Sequence[Vote], policy: str = LOG) -> None:
        """Store votes on the base's answers from which nothing is learnt here, under another policy."""
        self._store(votes, policy, 1, 0)

    def _store(self, votes: Sequence[Vote], policy: str, now: int, first: int) -> None:
        since = BEGAN + (now - 1) * timedelta(seconds=self.settings.update_every)
        apart = timedelta(seconds=self.settings.update_every / max(1, len(votes)))
        events: list[Event] = []
        for number, vote in enumerate(votes):
            events += _events(f"{policy}-{first + number}", vote, policy, since + number * apart)
        with self.learner.database.write() as session:
            upsert(session, events)

    def update(self, anew: bool = False) -> Checkpoint:
        """Learn from all votes so far, as an update tick does; the result answers from now on. `anew`: from the
        base, as after an erasure."""
        learner, settings = self.learner, self.settings
        progress = TrainingProgress(
            update=f"update-{self.version}",
            policy=POLICY,
            parent=self.version,
            base_sha256=learner.model.sha256,
            high_water=0,
            step=0,
            seconds=0.0,
            done=False,
            code="bench",
            seed=settings.seed + self.version,
        )
        start = (
            next_start(self.trained, progress, learner.model, settings)
            if self.trained and not anew
            else TrainingStart(fresh_adapter(learner.model, settings), progress)
        )
        data = load_training_data(
            learner.database,
            learner.model,
            settings,
            policy=POLICY,
            champion=self.version,
            rule_state=start.rule_state,
            tasks=learner.tasks,
            calibration=learner.calibration,
        )
        folder = settings.checkpoints / progress.update
        trained = train(start, folder, data, learner.model, learner.engine, settings, lambda: None)
        if self.adapter is not None:
            learner.engine.unload_adapter(self.adapter)
        self.trained, self.version = trained, self.version + 1
        learner.engine.load_adapter(self.adapter or "", trained.adapter_folder)
        return trained

    def examine(
        self, candidate: AdapterWeights, champion: AdapterWeights | None = None
    ) -> GateReport:
        """What the gate says of an adapter beside a champion; None is the base."""
        learner = self.learner
        adapters = {CANDIDATE: candidate} | ({CHAMPION: champion} if champion else {})
        return evaluate(learner.gate, learner.panel(**adapters))

    def skill(self, candidate: AdapterWeights) -> Skill:
        """Of an adapter beside the base, on the same questions with the same seeds; without families that the
        base never solves."""
        gate, panel = self.learner.gate, self.learner.panel(**{CANDIDATE: candidate})
        asked = [q for q in gate.suite.questions if q.task.family not in gate.calibration.never]
        with panel.seated():
            answers = panel.answers(asked)

        def solved(policy: str) -> float:
            verdicts: dict[str, list[bool]] = defaultdict(list)
            for question, answer in zip(asked, answers[policy], strict=True):
                if (verdict := gate.suite.verdict(question, answer)) is not None:
                    verdicts[question.task.family].append(verdict)
            return mean([mean(of_family) for of_family in verdicts.values()])

        return Skill(solved(CANDIDATE), solved(BASE_ANSWERS), len(asked))


def changed(told: Sequence[str] | None) -> dict[str, Any]:
    """Settings by name, from `SETTING=JSON` of a command line. Raises BadParameter."""
    found = {}
    for each in told or ():
        name, _, value = each.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise typer.BadParameter(f"{each}: not SETTING=JSON, as kl_weight=0.1 is") from None
    return found


def _events(id: str, vote: Vote, policy: str, at: datetime) -> tuple[Event, Event]:
    """The answer and the thumbs, as the service would have recorded them."""
    rollout = vote.answer.rollout
    completion = Completion(
        index=0,
        token_ids=list(rollout.token_ids),
        logprobs=list(rollout.logprobs),
        processed_logprobs=list(rollout.logprobs),  # at temperature 1 they are the same
        text=rollout.text,
        finish_reason=vote.answer.finish_reason,
    )
    answered = InteractionEvent(
        id=id,
        time=at,
        tenant=vote.tenant,
        user=vote.user,
        policy=policy,
        version=vote.answer.version,
        messages=[dict(message) for message in vote.answer.prompt.messages],
        prompt_ids=list(rollout.prompt_ids),
        completions=[completion],
    )
    judged = FeedbackEvent(
        id=f"vote-{id}",
        time=at,
        tenant=vote.tenant,
        user=vote.user,
        interaction_id=id,
        name="correction" if vote.correction else "thumbs",
        value=vote.correction or ("up" if vote.up else "down"),
    )
    return answered, judged
