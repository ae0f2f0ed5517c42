"""`burnish report`: is it learning? What votes say of each version, in words, as JSON, as PNGs.

It is made afresh where the experience database can be reached, with more time for fits than a tick has;
else it is the one that the service has from the learner's last tick.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.ops.commands.client import ServiceClient, ServiceError
from burnish.ops.settings import UpSettings
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from burnish.learner.report.figures import Rate, Report, VersionFigures

SHOWN = 12  # versions in the table, the latest ones


def run(
    settings: UpSettings, policy: str, console: Console, *, as_json: bool, plots: Path | None
) -> None:
    """Raises ServiceError where neither the database nor a service answers."""
    report = from_database(settings, policy) or from_service(settings, policy)
    if plots is not None:
        drawn = _draw(report, plots)
    if as_json:
        print(report.model_dump_json(indent=1))
        return
    tell(report, console)
    if plots is not None:
        _say(console, f"drawn: {', '.join(map(str, drawn))}")


def from_database(settings: UpSettings, policy: str) -> Report | None:
    """The report made anew; None where another service is meant, or the database is not to be reached."""
    file = settings.data_dir.resolve() / "experience.db"
    if settings.url or (settings.database_url is None and not file.exists()):
        return None
    from burnish.learner.database import Database
    from burnish.learner.report.data import ASKED
    from burnish.learner.report.make import make
    from burnish.learner.report.reading import read
    from burnish.learner.settings import LearnerSettings
    from sqlalchemy.exc import SQLAlchemyError

    learner = LearnerSettings()
    database = Database(learner.database)
    try:
        with database.read() as session:
            data = read(
                session,
                policy,
                at=time.time(),
                limit=learner.history,
                trust=learner.trust_of(policy),
            )
    except SQLAlchemyError:
        return None
    finally:
        database.close()
    return make(data, bounds=ASKED)


def from_service(settings: UpSettings, policy: str) -> Report:
    """The report that the learner left at its last tick."""
    from burnish.learner.report.figures import Report

    told = ServiceClient(settings).get("/v1/learner/report", policy=policy)
    if told["report"] is None:
        raise ServiceError(told["why"])
    return Report.model_validate(told["report"])


def tell(report: Report, console: Console) -> None:
    from burnish.learner.report.words import HEADLINES

    console.print(f"Is it learning? {HEADLINES[report.verdict]}", style="bold", markup=False)
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.at))
    _say(
        console,
        f"{report.policy}, {when}: {report.votes:.0f} votes of {report.people} people on the latest"
        f" {report.answers} judged answers",
    )
    console.print()
    for finding in report.findings:
        _say(console, f"- {finding}")
    console.print()
    console.print(versions(report))
    console.print()
    if report.advice:
        console.print("What would help most", style="bold")
    for number, advice in enumerate(report.advice, start=1):
        _say(console, f"{number}. {advice.says}")
    if report.last_update:
        _say(console, f"\nThe last update: {report.last_update}")


def versions(report: Report) -> Table:
    """The first version and the latest ones."""
    table = Table(
        "version", "votes", "liked", "interval", "foreseen", "gate", "skill", "KL", "tokens",
        "refuse", "ask", box=None,
    )  # fmt: skip
    listed = report.versions
    if len(listed) > SHOWN:
        table.caption = f"{len(listed) - SHOWN} versions between are left out; --json has all"
        listed = [listed[0], *listed[1 - SHOWN :]]
    for version in listed:
        table.add_row(*_row(version))
    return table


def _row(version: VersionFigures) -> list[str]:
    from burnish.learner.report.words import percent

    liked = version.liked
    interval = "" if liked is None else f"{100 * liked.low:.0f} to {100 * liked.high:.0f} %"

    def share(rate: Rate | None) -> str:
        return "" if rate is None else percent(rate.share)

    return [
        str(version.version),
        "" if liked is None else f"{liked.count:.0f}",
        share(liked),
        interval if version.enough or liked is None else "too few votes",
        "" if version.foreseen is None else percent(version.foreseen.foreseen),
        {True: "passed", False: "refused", None: ""}[version.gate_passed],
        "" if version.skill is None else percent(version.skill),
        "" if version.kl is None else f"{version.kl:.3f}",
        "" if version.tokens is None else f"{version.tokens:.0f}",
        share(version.refusals),
        share(version.questions),
    ]


def _draw(report: Report, folder: Path) -> list[Path]:
    from burnish.learner.report.plots import draw

    try:
        return draw(report, folder)
    except OSError as error:
        raise ServiceError(f"{folder} cannot be written to: {error}") from error


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)
