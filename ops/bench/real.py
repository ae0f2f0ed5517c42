"""A real model learns from people's votes: `python -m burnish.ops.bench.real`.

Simulated people with tastes of their own (lib/people.py) judge a real model's answers to everyday prompts, each the
best of four that serving would give (BURNISH_BEST_OF), one vote in five wrong, and the learner learns from them with
its own settings, update after update. After each: what share of the way from the base to the best of 16 of its
answers the version has gone on held-out prompts, by one answer and by the best of several that its reward model
picks; its skill on the gate's tasks in the end; KL, lengths and time. Then the same of TRL's KTO and DPO with as many
votes on the base's answers. Figures are written as they come, and what was measured before of the same plan is kept: the
learner (--no-baselines) and the baselines (--updates 0) may run apart. Left out: HTTP, the registry, and
whether answers are true.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from burnish.kernels.lora import AdapterWeights, load_adapter
from burnish.learner.rules import NothingToLearn
from burnish.learner.settings import LearnerSettings
from burnish.ops import models
from burnish.ops.bench.lib.choosing import flattened, given_of
from burnish.ops.bench.lib.everyday_prompts import Prompt, load_prompts
from burnish.ops.bench.lib.learning_loop import LOG, Answer, LearningLoop, Vote, changed
from burnish.ops.bench.lib.people import People, draw_people
from burnish.ops.bench.lib.real_baselines import METHODS, Method, train_baseline, write_log
from burnish.ops.bench.lib.real_exam import SEED, Exam, headroom
from burnish.ops.bench.lib.real_report import check_goals, plot, print_tables
from burnish.ops.bench.lib.results import FOLDER, MACHINE, differences, write_results
from rich.console import Console

# Four updates within the two hours, the last of which begins at the base and so has four times its time, and tasks
# enough to see a point of skill.
DEFAULTS = {
    "tasks": "general",
    "update_every": 720.0,
    "promotes": "champion",  # a canary would wait for real users
    "gate_tasks_per_family": 40,
    "threads": 2,
}
ANSWER_TOKENS = 160  # what the product lets an answer have
BEST_OF = 16
RATES = (1e-4, 3e-4, 1e-3)  # learning rates that the baselines are tuned over
BATCH = 64  # answers that are judged before more are drawn
console = Console(stderr=True)


def main(
    votes: Annotated[int, typer.Option(help="Votes in all.")] = 1000,
    updates: Annotated[
        int, typer.Option(help="Updates they are spread over; 0: baselines alone.")
    ] = 4,
    prompts: Annotated[int, typer.Option(help="Held-out prompts.")] = 100,
    samples: Annotated[int, typer.Option(help="Answers to each at an exam.")] = 4,
    model: Annotated[str, typer.Option(help="As BURNISH_MODEL.")] = "smollm2",
    seed: Annotated[int, typer.Option(help="Of people, votes and training.")] = 0,
    best_of: Annotated[int, typer.Option(help="BURNISH_BEST_OF, of serving.")] = 4,
    baselines: Annotated[bool, typer.Option(help="TRL's KTO and DPO, tuned.")] = True,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="Learning rates to tune them over (1e-4, 3e-4, 1e-3)."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=JSON", help="Another setting of the learner."),
    ] = None,
    out: Annotated[Path, typer.Option(help="real.json and real.png go here.")] = FOLDER,
) -> None:
    """Measure how well the learner learns people's tastes."""
    changes = changed(change)
    plan = Plan(
        votes, updates, prompts, samples, seed, best_of, tuple(rate or RATES) if baselines else ()
    )
    told = {"model": model, "settings": changes, **plan.sizes}
    figures = earlier(out, told)

    def keep(found: Mapping[str, Any]) -> None:
        figures.update(found)
        write_results("real", figures, out, must_show=check_goals(figures))

    with tempfile.TemporaryDirectory() as scratch:
        settings = LearnerSettings(
            model=models.resolve(Path(model)),
            seed=seed,
            data_dir=Path(scratch),
            **{**DEFAULTS, **changes},
        )
        torch.set_num_threads(settings.threads)
        measure(LearningLoop(settings), plan, keep)
    if figures.get("updates"):
        print_tables(figures, check_goals(figures))
        print(plot(figures, out / "real.png"))


def earlier(out: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """What this machine has measured of the same model, settings and sizes; else just those."""
    file = out / "real.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    same = all(found.get(name) == value for name, value in told.items())
    if not same or differences(found["machine"], MACHINE):
        return dict(told)
    return found


@dataclass(frozen=True)
class Plan:
    """The run's size; `main` says what each is."""

    votes: int
    updates: int
    prompts: int
    samples: int
    seed: int
    best_of: int
    rates: tuple[float, ...]  # of the baselines; none: they are left out

    @property
    def sizes(self) -> dict[str, int]:
        """What two runs must have in common for their figures to stand side by side."""
        return {
            "votes": self.votes,
            "prompts": self.prompts,
            "samples": self.samples,
            "seed": self.seed,
            "best_of": self.best_of,
        }


def measure(loop: LearningLoop, plan: Plan, keep: Callable[[Mapping[str, Any]], None]) -> None:
    """Give all figures to `keep` by name, as they come. Seconds are of the wall, `cpu_seconds` of this
    process, both without the baselines."""
    _ = loop.learner.engine  # loads the model, whose time is not counted
    began, cpu = time.monotonic(), time.process_time()
    log("the base's answers to held-out prompts")
    base = loop.answer(
        load_prompts("heldout")[: plan.prompts],
        samples=BEST_OF,
        max_tokens=ANSWER_TOKENS,
        seed=SEED,
        adapter=None,
    )
    by_topic: dict[str, list[list[Answer]]] = defaultdict(list)
    for given in base:
        by_topic[given[0].prompt.family].append(given)
    texts = {topic: [a.text for a in flattened(given)] for topic, given in by_topic.items()}
    people = draw_people(texts, seed=plan.seed)
    exam = Exam(loop, people, base, ANSWER_TOKENS)
    keep(
        {
            "base": base_figures(base, exam, time.process_time() - cpu),
            "headroom": headroom(by_topic),
        }
    )
    rng = random.Random(f"real:{plan.seed}")
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for number in range(1, plan.updates + 1):
        wanted = plan.votes * number // plan.updates - len(loop.votes)
        try:
            rows.append(update(loop, people, exam, wanted, plan, rng))
        except NothingToLearn as why:
            log(f"nothing is learnt: {why}")
            refused.append({"votes": len(loop.votes), "why_not": str(why)})
        if number == plan.updates and loop.trained:
            rows[-1]["skill"] = skill_of(loop, loop.trained.adapter)
        keep(
            {
                "updates": rows,
                "nothing_learnt": refused,
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
            }
        )
    if plan.rates:
        rng = random.Random(f"log:{plan.seed}")
        loop.keep_log(cast_votes(loop, people, plan.votes, rng, adapter=None))
        found: dict[str, Any] = {}
        for method in METHODS:
            for best in baseline_runs(loop, exam, method, plan.samples, plan.rates):
                keep({"baselines": {**found, method: best}})
                found[method] = best


def base_figures(
    base: Sequence[Sequence[Answer]], exam: Exam, cpu_seconds: float
) -> dict[str, float]:
    answers = flattened(base)
    return {
        "liked": float(exam.base.mean()),
        "best_of_16_liked": float(exam.oracle.mean()),
        "tokens": sum(len(answer.rollout.token_ids) for answer in answers) / len(answers),
        "finished": sum(answer.finish_reason == "stop" for answer in answers) / len(answers),
        "cpu_seconds_per_answer": cpu_seconds / len(answers),
    }


def update(
    loop: LearningLoop, people: People, exam: Exam, votes: int, plan: Plan, rng: random.Random
) -> dict[str, Any]:
    """So many more votes, an update, and what has come of it."""
    clock = Clock()
    log(f"{votes} votes on version {loop.version}")
    loop.judge(cast_votes(loop, people, votes, rng, loop.adapter, plan.best_of))
    seconds = {"votes": clock.lap()}
    log("an update")
    trained = loop.update()
    seconds["update"] = clock.lap()
    log("the exam")
    result = exam.take(loop.adapter or "", plan.samples, trained.rule_state)
    seconds["exam"] = clock.lap()
    found = {
        "votes": len(loop.votes),
        "steps": trained.progress.step,
        **asdict(result),
        "training": trained.progress.figures,
        "seconds": seconds,
    }
    log(
        f"{found['votes']} votes: {result.way:+.0%} of the way (best of n {result.best_way}, of the base's 16"
        f" {result.reward_way}), {found['steps']} steps, {seconds}"
    )
    return found


def baseline_runs(
    loop: LearningLoop, exam: Exam, method: Method, samples: int, rates: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """A method's best run so far on the log of the base, after each learning rate. Which is best is looked
    up at the exam itself, in the baseline's favour."""
    learner = loop.learner
    folder = loop.settings.data_dir / method
    folder.mkdir()
    rows = write_log(learner.database, LOG, method, folder / "log.jsonl")
    runs: list[dict[str, Any]] = []
    adapters: dict[float, Path] = {}
    for rate in rates:
        clock, name = Clock(), f"{method}-{rate:g}"
        log(f"{method} at a learning rate of {rate:g} on {rows} rows")
        adapters[rate] = adapter = train_baseline(
            method, learner.model.path, folder / "log.jsonl", folder / name, rate
        )
        seconds = clock.lap()
        learner.engine.load_adapter(name, adapter)
        result = exam.take(name, samples)
        learner.engine.unload_adapter(name)
        log(f"{name}: {result.way:+.0%} of the way, {seconds:.0f} s")
        runs.append({"rate": rate, "rows": rows, "seconds": seconds, **asdict(result)})
        yield {**max(runs, key=lambda run: run["way"]), "runs": list(runs)}
    best = max(runs, key=lambda run: run["way"])
    yield {**best, "runs": runs, "skill": skill_of(loop, load_adapter(adapters[best["rate"]]))}


def cast_votes(
    loop: LearningLoop,
    people: People,
    count: int,
    rng: random.Random,
    adapter: str | None,
    best_of: int = 1,
) -> list[Vote]:
    """Votes of random people on a version's answers to random training prompts, each chosen among so many
    candidates once there is a reward model."""
    prompts: list[Prompt] = load_prompts("train")
    reward = loop.reward if best_of > 1 else None
    votes: list[Vote] = []
    while len(votes) < count:
        asked = [rng.choice(prompts) for _ in range(min(BATCH, count - len(votes)))]
        seed = rng.getrandbits(30)
        given = loop.answer(
            asked,
            samples=best_of if reward else 1,
            max_tokens=ANSWER_TOKENS,
            seed=seed,
            adapter=adapter,
        )
        for answer in given_of(loop.learner.model, reward, given, seed):
            if answer.rollout.token_ids:  # nobody judges nothing
                person = rng.choice(people.everyone)
                up = people.vote(person, answer.prompt.family, answer.text, rng)
                votes.append(Vote(answer, person.id, up))
    return votes


def skill_of(loop: LearningLoop, adapter: AdapterWeights) -> dict[str, float]:
    log("its skill")
    return asdict(loop.skill(adapter))


class Clock:
    """Seconds of the wall since the last lap."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        last, self._last = self._last, time.monotonic()
        return round(self._last - last, 1)


def log(text: str) -> None:
    console.print(text, highlight=False)


if __name__ == "__main__":
    typer.run(main)
