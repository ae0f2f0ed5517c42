"""Terminal display of a running simulation: a live table with one row per version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from burnish.ops.simulate.evaluation import Evaluation
from burnish.ops.simulate.journal import Journal
from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

REFRESH_S = 1.0
PLAIN_EVERY_S = 30.0  # without a terminal, status lines instead of the table
MAX_ROWS = 14
COLUMNS = ("version", "answers", "judged", "seen", "expected", "base", "skill", "base", "age")


async def show_while_running(work: Awaitable[None], journal: Journal, deadline: float) -> None:
    """Await `work` while refreshing the display; exceptions of `work` propagate."""
    console = Console()
    running = asyncio.ensure_future(work)
    if console.is_terminal:
        with Live(render(journal, deadline), console=console, auto_refresh=False) as live:
            while not running.done():
                await asyncio.wait([running], timeout=REFRESH_S)
                live.update(render(journal, deadline), refresh=True)
    else:
        while not running.done():
            await asyncio.wait([running], timeout=PLAIN_EVERY_S)
            console.print(status_line(journal, deadline))
    await running


def render(journal: Journal, deadline: float) -> Group:
    table = Table(
        title="thumbs-up by version, frozen base on the same prompts beside it", box=SIMPLE
    )
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in journal.summaries()[-MAX_ROWS:]:
        table.add_row(
            f"{row.version}{' *' if row.version == journal.champion else ''}",
            str(row.answers),
            str(row.judged),
            *(
                _figure(value)
                for value in (row.observed, row.expected, row.base_expected, row.right)
            ),
            _figure(row.base_right),
            _figure(row.staleness, 1),
        )
    return Group(
        table, Text(status_line(journal, deadline)), Text(learner_status(journal), style="dim")
    )


def status_line(journal: Journal, deadline: float) -> str:
    remaining = max(deadline - time.monotonic(), 0)
    recent = [answer for answer in journal.answers[-400:] if answer.honest]
    expected = sum(answer.expected for answer in recent) / len(recent) if recent else float("nan")
    text = (
        f"{int(remaining // 60)}:{int(remaining % 60):02d} left, champion {journal.champion}, "
        f"{len(journal.answers)} answers, {len(journal.votes)} votes, "
        f"recent expected thumbs-up {_figure(expected)}"
    )
    if journal.refused:
        text += f", {journal.refused} refused for a while"
    if journal.failures:
        text += f", {len(journal.failures)} FAILED ({journal.failures[-1]})"
    return text


def learner_status(journal: Journal) -> str:
    """What the learner's latest tick reported."""
    ticks = [t for t in journal.ticks.values() if t.get("kind") != "intake"]
    if not ticks:
        return "learner: nothing yet"
    last = max(ticks, key=lambda tick: str(tick.get("at", "")))
    return f"learner: {last.get('did') or last.get('why_not') or last.get('kind')}"


def print_report(
    console: Console, evaluation: Evaluation | None, cadence: dict, journal: Journal
) -> None:
    """Print the results in a few lines."""
    if evaluation is not None:
        low, high = evaluation.share_interval
        console.print(
            f"held-out, {evaluation.prompts} prompts each: expected thumbs-up "
            f"base {evaluation.expected_base:.3f}, version {evaluation.champion} "
            f"{evaluation.expected_champion:.3f}, oracle {evaluation.expected_oracle:.3f}; "
            f"{evaluation.share:.0%} of the way ({low:.0%} to {high:.0%})"
        )
        low, high = evaluation.skill_interval
        console.print(
            f"skill accuracy: base {evaluation.skill_base:.3f}, champion "
            f"{evaluation.skill_champion:.3f}, difference {evaluation.skill_difference:+.3f} "
            f"({low:+.3f} to {high:+.3f}); preferred style {evaluation.style_base:.2f} -> "
            f"{evaluation.style_champion:.2f}"
        )
    console.print(
        f"from an accepted thumbs-down to the first answer by weights that include it: median "
        f"{_seconds(cadence['median_seconds'])}, p90 {_seconds(cadence['p90_seconds'])} "
        f"({cadence['included']} of {cadence['thumbs_down']} included)"
    )
    for failure in journal.failures[:5]:
        console.print(f"FAILED {failure}", style="red", markup=False)
    if journal.failures:
        console.print(f"{len(journal.failures)} requests failed", style="red")


def _seconds(value: object) -> str:
    return "not reached" if value is None else f"{value:.0f} s"


def _figure(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
