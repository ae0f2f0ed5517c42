"""Sample efficiency of the update rules: `python -m burnish.ops.bench.learning`.

The simulated population judges answers in this process, without HTTP, stream or registry, and the
learner's own training code learns from them, tick after tick. After each tick: the expected
thumbs-up rate on held-out tasks (noise-free, since the preferences are known), which share of the
distance from the frozen base to the oracle that is, and the skill. For tuning; the figures that are
published come from `burnish simulate`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.gate.suite import mean
from burnish.learner.reward.experience import Experience, LoggedPrompt
from burnish.learner.rules import RULES, TrainingData
from burnish.learner.settings import LearnerSettings
from burnish.learner.tasks import open_source
from burnish.learner.tasks.ember import FAMILIES, STYLES, Exercise, is_correct, sample, style_of
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.learner.training.prompts import task_prompt
from burnish.learner.training.rollouts import Rollout, generate
from burnish.learner.update.judged import evidence_of
from burnish.learner.update.loop import train
from burnish.learner.update.start import TrainingStart, fresh_adapter, next_start
from burnish.ops.settings import DEMO_UPDATE_EVERY
from burnish.ops.simulate.population import Population, draw_population
from burnish.serving.engine import LocalEngine, Request, SamplingParams
from burnish.serving.reward.features import base_features


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    model = load_model(options.model)
    overrides = {key: json.loads(value) for key, value in (pair.split("=") for pair in options.set)}
    settings = LearnerSettings(
        model=options.model,
        threads=options.threads,
        rule=options.rule,
        **{"update_every": DEMO_UPDATE_EVERY, **overrides},
    )
    engine = LocalEngine(model, max_running=128, num_blocks=128 * 24)
    people = draw_population(families=list(FAMILIES), styles=STYLES, seed=options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        Bench(model, engine, settings, people, options, Path(scratch)).run()
    return 0


@dataclass(frozen=True)
class Exam:
    """What a version answered to the held-out tasks: families, whether right, and in which style."""

    families: Sequence[str]
    right: Sequence[bool]
    styles: Sequence[str | None]
    people: Population

    @property
    def skill(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def expected(self) -> float:
        """The expected rate of thumbs up."""
        rows = zip(self.families, self.right, self.styles, strict=True)
        return sum(self.people.expected(*row) for row in rows) / len(self.right)

    def style_alone(self, skills: Mapping[str, float], liked: bool = False) -> float:
        """The expected rate as if each family had these skills; with every style liked, if so asked."""
        total = 0.0
        for family, style in zip(self.families, self.styles, strict=True):
            style = self.people.preferred[family] if liked else style
            skill = skills[family]
            total += skill * self.people.expected(family, True, style)
            total += (1 - skill) * self.people.expected(family, False, style)
        return total / len(self.right)

    def by_family(self, hits: Sequence[bool]) -> dict[str, float]:
        return {
            family: mean([hit for f, hit in zip(self.families, hits, strict=True) if f == family])
            for family in dict.fromkeys(self.families)
        }

    @property
    def in_style(self) -> dict[str, float]:
        """Per family the share of answers in the liked style."""
        pairs = zip(self.families, self.styles, strict=True)
        return self.by_family([style == self.people.preferred[family] for family, style in pairs])


class Bench:
    def __init__(
        self,
        model: LoadedModel,
        engine: LocalEngine,
        settings: LearnerSettings,
        people: Population,
        options: argparse.Namespace,
        scratch: Path,
    ) -> None:
        self.model, self.engine, self.settings = model, engine, settings
        self.people, self.options, self.scratch = people, options, scratch
        self.rng = random.Random(f"bench:{options.seed}")
        heldout = random.Random("bench:heldout")
        self.eval_tasks = [
            sample(heldout, family, "heldout") for family in FAMILIES for _ in range(options.exam)
        ]
        self.experience: list[Experience] = []
        self.features = torch.empty(0, 3 * model.config.hidden_size)
        self.prompts: list[tuple[int, ...]] = []

    def run(self) -> None:
        base = self._evaluate(None)
        skills = base.by_family(base.right)
        lowest, highest = base.style_alone(skills), base.style_alone(skills, liked=True)
        print(f"base {base.expected:.3f}  oracle {highest:.3f}  skill {base.skill:.3f}", flush=True)
        start = TrainingStart(fresh_adapter(self.model, self.settings), self._progress(0))
        adapter: str | None = None
        for tick in range(1, self.options.ticks + 1):
            self._collect_votes(adapter, tick)
            began = time.monotonic()
            data = TrainingData(
                self.experience,
                evidence_of(self.model, self.experience, self.features, ()),
                [LoggedPrompt(prompt) for prompt in self.prompts[-2048:]],
                tasks=open_source("ember"),
            )
            done = train(
                start,
                self.scratch / str(tick),
                data,
                self.model,
                self.engine,
                self.settings,
                check_lease=lambda: None,
            )
            seconds = time.monotonic() - began
            if adapter is not None:
                self.engine.unload_adapter(adapter)
            adapter = f"bench@{tick}"
            self.engine.set_adapter_weights(adapter, done.adapter)
            start = next_start(done, self._progress(tick), self.model, self.settings)
            figures = done.progress.figures
            line = f"tick {tick:3d}  votes {len(self.experience):5d}  steps {done.progress.step:3d}"
            if tick % self.options.every == 0:
                exam = self._evaluate(adapter)
                way = (exam.style_alone(skills) - lowest) / (highest - lowest)
                worst = min(exam.in_style, key=exam.in_style.__getitem__)
                line += (
                    f"  expected {exam.expected:.3f}  way {way:+.0%}  skill {exam.skill:.3f}"
                    f"  worst {worst} {exam.in_style[worst]:.2f}"
                )
            names = (
                "kl",
                "entropy",
                "reward_auroc",
                "reward_auroc_lower",
                "preference_weight",
                "liked",
                "burden",
                "imitated",
                "skill",
                "grad_norm",
            )
            summary = "  ".join(f"{name} {figures[name]:.3f}" for name in names if name in figures)
            print(f"{line}  [{summary}]  {seconds:.1f} s", flush=True)

    def _collect_votes(self, adapter: str | None, tick: int) -> None:
        """Sample answers until `votes` more of them have been judged."""
        wanted = len(self.experience) + self.options.votes
        while len(self.experience) < wanted:
            tasks = [sample(self.rng) for _ in range(96)]
            rollouts = self._rollouts(tasks, adapter, self.rng.getrandbits(30))
            judged = []
            for task, rollout in zip(tasks, rollouts, strict=True):
                self.prompts.append(rollout.prompt_ids)
                user = self.rng.choice(self.people.users)
                right = is_correct(task, rollout.text)
                chance = self.people.expected_by(
                    user, task.family, right, style_of(task, rollout.text)
                )
                for up in self.people.votes(user, chance, self.rng)[-1:]:
                    judged.append((rollout, user.id, up))
            judged = judged[: wanted - len(self.experience)]
            if not judged:
                continue
            features = base_features(
                self.model, [(r.prompt_ids, r.token_ids) for r, _, _ in judged]
            )
            self.features = torch.cat([self.features, features])
            for rollout, user_id, up in judged:
                self.experience.append(self._experience(rollout, user_id, up, tick))

    def _experience(self, rollout: Rollout, user: str, up: bool, version: int) -> Experience:
        return Experience(
            interaction_id=str(len(self.experience)),
            choice=0,
            version=version,
            staleness=0,
            tenant="bench",
            user=user,
            prompt_ids=rollout.prompt_ids,
            token_ids=rollout.token_ids,
            logprobs=rollout.logprobs,
            reward=1.0 if up else -1.0,
            weight=0.05 if os.environ.get("X_TRUST") and user[-4:] in ("-000", "-001") else 1.0,
            judged_at=float(len(self.experience)),
        )

    def _evaluate(self, adapter: str | None) -> Exam:
        rollouts = self._rollouts(self.eval_tasks, adapter, 0)
        pairs = list(zip(self.eval_tasks, rollouts, strict=True))
        return Exam(
            [task.family for task in self.eval_tasks],
            [is_correct(task, rollout.text) for task, rollout in pairs],
            [style_of(task, rollout.text) for task, rollout in pairs],
            self.people,
        )

    def _rollouts(self, tasks: Sequence[Exercise], adapter: str | None, seed: int) -> list[Rollout]:
        requests = [
            Request(
                id=str(number),
                prompt_ids=task_prompt(self.model, task),
                params=SamplingParams(
                    max_tokens=self.settings.max_answer_tokens, seed=seed + number
                ),
                adapter=adapter,
            )
            for number, task in enumerate(tasks)
        ]
        return generate(self.engine, requests)

    def _progress(self, parent: int) -> TrainingProgress:
        return TrainingProgress(
            update=str(parent),
            policy="bench",
            parent=parent,
            base_sha256=self.model.sha256,
            high_water=0,
            step=0,
            seconds=0.0,
            done=False,
            code="bench",
            seed=1000 * self.options.seed + parent,
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "ember")
    parser.add_argument("--rule", choices=sorted(RULES), default="reward_model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--votes", type=int, default=64, help="new judgements in each tick")
    parser.add_argument("--exam", type=int, default=20, help="held-out tasks of each family")
    parser.add_argument("--every", type=int, default=4, help="ticks between exams")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
