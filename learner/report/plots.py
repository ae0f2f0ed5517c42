"""The report as PNGs: what people liked and what was foreseen, and what versions are like.

Matplotlib, slow to import, is loaded only when called. The base's skill is drawn as a line; shares below
the floor of votes are pale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish.learner.report.figures import Rate, Report, VersionFigures

INK, PALE, NOISY, GOOD, BAD = "#1f4e79", "#b5c4d3", "#d08a2e", "#3a7d44", "#b03a2e"
MOST_TICKS = 12


def draw(report: Report, folder: Path) -> list[Path]:
    """Write liked.png and versions.png into the folder, which is made where it is missing."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [_liked(report, folder / "liked.png"), _versions(report, folder / "versions.png")]


def _liked(report: Report, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 4.5))
    judged = [(v.version, v.liked, v.enough) for v in report.versions if v.liked is not None]
    for enough, color, label in (
        (True, INK, "liked, with 95 % interval"),
        (False, PALE, "the same, too few votes"),
    ):
        _bars(axis, [(version, rate) for version, rate, e in judged if e is enough], color, label)
    foreseen = [(v.version, v.foreseen) for v in report.versions if v.foreseen is not None]
    for above, color, label in (
        (False, NOISY, "foreseen from earlier votes"),
        (True, BAD, "foreseen, too much"),
    ):
        some = [(version, f.foreseen) for version, f in foreseen if f.above is above]
        if some:
            axis.plot(*zip(*some, strict=True), "D", color=color, ms=6, label=label)
    found = report.comparison
    if found is not None:
        for versions, rate in (([found.first], found.before), (found.latest, found.now)):
            ends = [versions[0] - 0.25, versions[-1] + 0.25]
            axis.fill_between(ends, rate.low, rate.high, color=GOOD, alpha=0.18, lw=0)
            axis.plot(ends, [rate.share, rate.share], color=GOOD, lw=1.5)
        axis.plot([], [], color=GOOD, lw=1.5, label="first and latest versions, compared")
    axis.set_title(f"{report.policy}: share of votes that like the answer", fontsize=11)
    _in_percent(axis)
    _over_versions(axis, report)
    if judged:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3}
        axis.legend(fontsize=8, frameon=False, **below)
    else:
        _nothing(axis, "no votes yet")
    return _save(figure, path)


def _versions(report: Report, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9, 6.2), sharex=True)
    skill, style, length, kl = axes.flat
    versions = report.versions
    _line(skill, versions, lambda v: v.skill, INK, "version")
    if report.base_skill is not None:
        skill.axhline(report.base_skill, color=NOISY, lw=1, ls="--", label="base")
    skill.set_title("skill at the gate: share of tasks right", fontsize=10)
    _bars(style, _rates(versions, lambda v: v.refusals), BAD, "refuse (English openings)", -0.06)
    _bars(style, _rates(versions, lambda v: v.questions), INK, "end in a question", 0.06)
    style.set_title("judged answers that ...", fontsize=10)
    _line(length, versions, lambda v: v.tokens, INK, "")
    length.set_title("mean length of judged answers, tokens", fontsize=10)
    length.set_ylim(bottom=0)
    _line(kl, versions, lambda v: v.kl, INK, "")
    kl.set_title("KL to the base, nats per token", fontsize=10)
    kl.set_ylim(bottom=0)
    for axis in (skill, style):
        _in_percent(axis)
        if axis.get_legend_handles_labels()[0]:
            axis.margins(y=0.25)  # room for it
            axis.legend(fontsize=8, frameon=False, loc="upper left")
    for axis in axes.flat:
        if not axis.has_data():
            _nothing(axis, "no figures yet")
    style.set_ylim(bottom=-0.03 * style.get_ylim()[1])
    for axis in (length, kl):
        _over_versions(axis, report)
    return _save(figure, path)


def _rates(
    versions: Sequence[VersionFigures], figure: Callable[[VersionFigures], Rate | None]
) -> list[tuple[int, Rate]]:
    return [(v.version, rate) for v in versions if (rate := figure(v)) is not None]


def _line(
    axis: Any,
    versions: Sequence[VersionFigures],
    figure: Callable[[VersionFigures], float | None],
    color: str,
    label: str,
) -> None:
    known = [(v.version, value) for v in versions if (value := figure(v)) is not None]
    if known:
        axis.plot(*zip(*known, strict=True), color=color, marker="o", ms=4, label=label)


def _bars(
    axis: Any, rates: Sequence[tuple[int, Rate]], color: str, label: str, aside: float = 0.0
) -> None:
    if not rates:
        return
    shares = [rate.share for _, rate in rates]
    below = [max(0.0, rate.share - rate.low) for _, rate in rates]
    over = [max(0.0, rate.high - rate.share) for _, rate in rates]
    axis.errorbar(
        [version + aside for version, _ in rates],
        shares,
        yerr=[below, over],
        fmt="o",
        ms=5,
        capsize=3,
        lw=1.2,
        color=color,
        label=label,
    )


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)


def _over_versions(axis: Any, report: Report) -> None:
    numbers = [version.version for version in report.versions] or [1]
    first, last = min(numbers), max(numbers)
    axis.set_xlim(first - 0.7, last + 0.7)
    axis.set_xticks(range(first, last + 1, 1 + (last - first) // MOST_TICKS))
    axis.set_xlabel("version")


def _nothing(axis: Any, says: str) -> None:
    axis.set_yticks([])
    axis.text(0.5, 0.5, says, transform=axis.transAxes, ha="center", va="center", color="#777777")


def _save(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
