"""`burnish simulate`: a run from the first hello to results.json.

Live phase, then the wait until the learner falls idle, then the paired evaluation, then
cadence, plots and the exit code (1 when the API failed any request).
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

from burnish.learner import tasks
from burnish.ops.machine import describe_machine
from burnish.ops.simulate import plots, screen
from burnish.ops.simulate.api import Api
from burnish.ops.simulate.evaluation import Verdict, evaluate
from burnish.ops.simulate.journal import Journal, cadence
from burnish.ops.simulate.lineage import learnt_by_version
from burnish.ops.simulate.options import Options, SimulateError
from burnish.ops.simulate.population import Population, draw_population
from burnish.ops.simulate.traffic import Traffic, look
from rich.console import Console
from rich.progress import Progress


class NoService(SimulateError, ConnectionError):
    """Nothing answers at the URL."""


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
    settled = replace(options or Options(), **given)
    try:
        return asyncio.run(simulate(settled))
    except NoService as error:
        Console(stderr=True).print(str(error), style="red", markup=False)
        return 1


async def simulate(options: Options) -> int:
    journal = Journal()
    people = draw_population(
        families=list(tasks.FAMILIES),
        styles=tasks.STYLES,
        users=options.users,
        deviate=options.deviate,
        malicious=options.malicious,
        flip=options.flip,
        judged=options.judged,
        seed=options.seed,
    )
    api = Api(options, journal)
    try:
        await look(api, journal, options)
        if journal.failures:
            raise NoService(f"no service at {options.url}: {journal.failures[0]}")
        begin = time.time()
        traffic = Traffic(options, people, api, journal)
        await screen.show_while(traffic.run(), journal, traffic.deadline)
        verdict = await _judge(options, people, api, journal)
        learnt = await learnt_by_version(api, options.policy, journal)
    finally:
        await api.close()
    pace = cadence(journal, learnt)
    options.out.mkdir(parents=True, exist_ok=True)
    results = results_of(options, people, journal, verdict, pace)
    (options.out / "results.json").write_text(json.dumps(tidy(results), indent=1) + "\n")
    plots.draw(journal, begin, verdict, options.out)
    console = Console()
    console.print(screen.picture(journal, 0.0))
    screen.report(console, verdict, pace, journal)
    console.print(f"results and plots in {options.out}")
    return 1 if journal.failures else 0


async def _judge(
    options: Options, people: Population, api: Api, journal: Journal
) -> Verdict | None:
    if not options.prompts:
        return None
    console = Console()
    console.print("feedback stopped; waiting for the learner to finish")
    await settle(options, api, journal)
    with Progress(console=console) as progress:
        bar = progress.add_task("held-out prompts, champion and base", total=options.prompts)
        return await evaluate(options, people, api, journal.champion, lambda: progress.advance(bar))


async def settle(options: Options, api: Api, journal: Journal) -> None:
    """Wait until the learner, asked to update after the last vote, finds nothing to do."""
    stopped = time.time()
    give_up = time.monotonic() + options.settle_s
    while time.monotonic() < give_up and not _idle(journal, stopped):
        await asyncio.sleep(1.0)
        await look(api, journal, options)


def _idle(journal: Journal, since: float) -> bool:
    return any(
        tick.get("kind") == "update" and tick.get("why_not") and _began(tick) > since
        for tick in journal.ticks.values()
    )


def _began(tick: Mapping[str, Any]) -> float:
    return float(tick["at"]) - float(tick["seconds"])


def results_of(
    options: Options,
    people: Population,
    journal: Journal,
    verdict: Verdict | None,
    pace: dict[str, object],
) -> dict[str, Any]:
    honest = [answer for answer in journal.answers if answer.honest]
    seconds = sorted(answer.seconds for answer in honest)
    return {
        "options": {**asdict(options), "out": options.out.name, "key": None},
        "machine": describe_machine(),
        "population": {
            "users": len(people.users),
            "malicious": len(people.users) - len(people.honest),
            "preferred": dict(people.preferred),
            "approval": asdict(people.approval),
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
        "evaluation": asdict(verdict) if verdict else None,
        "cadence": pace,
        "cycle": journal.cycle(),
        "staleness": journal.staleness(),
        "champions": [{"at": at, "version": version} for at, version in journal.champions],
        "versions": [asdict(row) for row in journal.summaries()],
    }


def tidy(value: Any) -> Any:
    """Four decimals are plenty, and JSON has no nan."""
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, Mapping):
        return {str(key): tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(item) for item in value]
    return value
