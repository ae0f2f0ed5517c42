"""`burnish simulate`: one simulation, from drawing the population to results.json.

The live phase, a wait until the learner is idle, the paired evaluation, then cadence, plots and the
exit code (1 when any request failed).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from burnish.learner.tasks import ember
from burnish.ops.machine import describe_machine
from burnish.ops.simulate import display, plots
from burnish.ops.simulate.api import ServiceApi
from burnish.ops.simulate.evaluation import Evaluation, evaluate
from burnish.ops.simulate.journal import Journal, cadence
from burnish.ops.simulate.lineage import learnt_by_version
from burnish.ops.simulate.options import Options, SimulateError
from burnish.ops.simulate.population import Population, draw_population
from burnish.ops.simulate.traffic import Traffic, poll
from rich.console import Console
from rich.progress import Progress


class NoService(SimulateError, ConnectionError):
    """No service answers at the URL."""


def main(options: Options | None = None, **changes: Any) -> int:
    """Run a simulation and return the process's exit code.

    Keyword options are the fields of `Options`; those that are None keep their default.
    """
    known = {field.name for field in fields(Options)}
    unknown = set(changes) - known
    if unknown:
        raise TypeError(f"simulate has no option {', '.join(sorted(unknown))}")
    given = {name: value for name, value in changes.items() if value is not None}
    if "out" in given:
        given["out"] = Path(given["out"])
    options = replace(options or Options(), **given)
    try:
        return asyncio.run(simulate(options))
    except NoService as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return 1


async def simulate(options: Options) -> int:
    journal = Journal()
    population = draw_population(
        families=list(ember.FAMILIES),
        styles=ember.STYLES,
        users=options.users,
        deviate=options.deviate,
        malicious=options.malicious,
        flip=options.flip,
        judged=options.judged,
        seed=options.seed,
    )
    api = ServiceApi(options, journal)
    try:
        await poll(api, journal, options)
        if journal.failures:
            raise NoService(f"no service at {options.url}: {journal.failures[0]}")
        started_at = time.time()
        traffic = Traffic(options, population, api, journal)
        await display.show_while_running(traffic.run(), journal, traffic.deadline)
        evaluation = await _evaluate_when_idle(options, population, api, journal)
        learnt = await learnt_by_version(api, options.policy, journal)
    finally:
        await api.close()
    cadence_figures = cadence(journal, learnt)
    options.out.mkdir(parents=True, exist_ok=True)
    results = results_of(options, population, journal, evaluation, cadence_figures)
    (options.out / "results.json").write_text(json.dumps(json_ready(results), indent=1) + "\n")
    plots.draw(journal, started_at, evaluation, options.out)
    console = Console()
    console.print(display.render(journal, 0.0))
    display.print_report(console, evaluation, cadence_figures, journal)
    console.print(f"results and plots in {options.out}")
    return 1 if journal.failures else 0


async def _evaluate_when_idle(
    options: Options, population: Population, api: ServiceApi, journal: Journal
) -> Evaluation | None:
    if not options.prompts:
        return None
    console = Console()
    console.print("feedback stopped; waiting for the learner to finish")
    await wait_until_idle(options, api, journal)
    with Progress(console=console) as progress:
        bar = progress.add_task("held-out prompts, champion and base", total=options.prompts)
        return await evaluate(
            options, population, api, journal.champion, lambda: progress.advance(bar)
        )


async def wait_until_idle(options: Options, api: ServiceApi, journal: Journal) -> None:
    """Wait until an update tick that began after the last vote found nothing to train on."""
    stopped = time.time()
    deadline = time.monotonic() + options.settle_s
    while time.monotonic() < deadline and not _idle(journal, stopped):
        await asyncio.sleep(1.0)
        await poll(api, journal, options)


def _idle(journal: Journal, since: float) -> bool:
    return any(
        tick.get("kind") == "update" and tick.get("why_not") and _began(tick) > since
        for tick in journal.ticks.values()
    )


def _began(tick: Mapping[str, Any]) -> float:
    return float(tick["at"]) - float(tick["seconds"])


def results_of(
    options: Options,
    population: Population,
    journal: Journal,
    evaluation: Evaluation | None,
    cadence_figures: dict[str, object],
) -> dict[str, Any]:
    honest = [answer for answer in journal.answers if answer.honest]
    seconds = sorted(answer.seconds for answer in honest)
    return {
        "options": {**asdict(options), "out": options.out.name, "key": None},
        "machine": describe_machine(),
        "population": {
            "users": len(population.users),
            "malicious": len(population.users) - len(population.honest),
            "preferred": dict(population.preferred),
            "approval": asdict(population.approval),
        },
        "traffic": {
            "answers": len(journal.answers),
            "votes": len(journal.votes),
            "retracted": sum(vote.retracted for vote in journal.votes.values()),
            "refused": journal.refused,
            "failed": len(journal.failures),
            "failures": journal.failures[:20],
            "median_answer_seconds": seconds[len(seconds) // 2] if seconds else None,
        },
        "evaluation": asdict(evaluation) if evaluation else None,
        "cadence": cadence_figures,
        "cycle": journal.cycle(),
        "staleness": journal.staleness(),
        "champions": [{"at": at, "version": version} for at, version in journal.champions],
        "versions": [asdict(row) for row in journal.summaries()],
    }


def json_ready(value: Any) -> Any:
    """The value with floats rounded to four decimals and NaN, which JSON lacks, as None."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value
