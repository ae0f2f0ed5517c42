"""PNG plots of a simulation. Matplotlib, slow to import, is loaded only when called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.ops.simulate.evaluation import Evaluation
from burnish.ops.simulate.journal import Journal, ServedAnswer, Summary

INK, BASE, NOISY, GOOD = "#1f4e79", "#8a8a8a", "#d08a2e", "#3a7d44"
BUCKET_S = 60.0
MIN_ANSWERS = 10  # fewer answers are not plotted: too noisy


def draw(
    journal: Journal, started_at: float, evaluation: Evaluation | None, folder: Path
) -> list[Path]:
    """Write versions.png, time.png and, after an evaluation, families.png."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = [
        _versions(journal.summaries(), evaluation, folder / "versions.png"),
        _time(journal, started_at, folder / "time.png"),
    ]
    if evaluation is not None:
        drawn.append(_families(evaluation, folder / "families.png"))
    return drawn


def _versions(summaries: Sequence[Summary], evaluation: Evaluation | None, path: Path) -> Path:
    import matplotlib.pyplot as plt

    rows = [row for row in summaries if row.answers >= MIN_ANSWERS]
    versions = [row.version for row in rows]
    figure, (thumbs, skill) = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    thumbs.errorbar(
        versions,
        [row.expected for row in rows],
        yerr=[
            [row.expected - row.expected_interval[0] for row in rows],
            [row.expected_interval[1] - row.expected for row in rows],
        ],
        color=INK,
        marker="o",
        capsize=3,
        label="expected (noise-free)",
    )
    thumbs.plot(versions, [row.observed for row in rows], ":", color=NOISY, marker=".",
                label="observed (flips and all)")  # fmt: skip
    pairs = [row for row in rows if row.pairs >= MIN_ANSWERS]
    # A version shares few prompts with the base: a point per version, a line for the pooled mean.
    for axis, name in ((thumbs, "base_expected"), (skill, "base_right")):
        means = [getattr(row, name) for row in pairs]
        axis.plot([row.version for row in pairs], means, "s", color=BASE, ms=4, alpha=0.4,
                  label="frozen base, same prompts")  # fmt: skip
        if pairs:
            pooled = sum(m * row.pairs for m, row in zip(means, pairs, strict=True))
            axis.axhline(pooled / sum(row.pairs for row in pairs), color=BASE, lw=1.5,
                         label="frozen base, all its prompts")  # fmt: skip
    if evaluation is not None:
        thumbs.axhline(
            evaluation.expected_oracle, color=GOOD, lw=1, label="oracle (held-out prompts)"
        )
    thumbs.set_ylabel("thumbs-up rate")
    thumbs.legend(fontsize=8)
    skill.plot(versions, [row.right for row in rows], color=INK, marker="o", label="version")
    skill.set_ylabel("skill accuracy")
    skill.set_xlabel("policy version")
    skill.legend(fontsize=8)
    skill.xaxis.get_major_locator().set_params(integer=True)
    return _save(figure, path)


def _time(journal: Journal, started_at: float, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure, (thumbs, staleness) = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    honest = [answer for answer in journal.answers if answer.honest]
    bases = [answer.base for answer in honest if answer.base is not None]
    for label, answers, color in (("served", honest, INK), ("frozen base", bases, BASE)):
        minutes, means = _by_minute(answers, started_at)
        thumbs.plot(minutes, means, color=color, marker=".", label=f"{label}, expected")
    for at, version in journal.champions[1:]:
        thumbs.axvline((at - started_at) / 60, color=GOOD, lw=0.6, alpha=0.6)
        thumbs.annotate(f"{version}", ((at - started_at) / 60, 1.01), fontsize=6,
                        xycoords=("data", "axes fraction"))  # fmt: skip
    thumbs.set_ylabel("expected thumbs-up rate")
    thumbs.legend(fontsize=8)
    votes = list(journal.votes.values())
    staleness.scatter([(vote.at - started_at) / 60 for vote in votes],
                      [vote.staleness for vote in votes], s=4, color=INK, alpha=0.4)  # fmt: skip
    staleness.set_ylabel("staleness of a vote (versions)")
    staleness.set_xlabel("minutes")
    return _save(figure, path)


def _by_minute(
    answers: Sequence[ServedAnswer], started_at: float
) -> tuple[list[float], list[float]]:
    buckets: dict[int, list[float]] = {}
    for answer in answers:
        buckets.setdefault(int((answer.at - started_at) // BUCKET_S), []).append(answer.expected)
    kept = [
        (bucket, rates) for bucket, rates in sorted(buckets.items()) if len(rates) >= MIN_ANSWERS
    ]
    return (
        [(bucket + 0.5) * BUCKET_S / 60 for bucket, _ in kept],
        [sum(rates) / len(rates) for _, rates in kept],
    )


def _families(evaluation: Evaluation, path: Path) -> Path:
    import matplotlib.pyplot as plt

    names = list(evaluation.families)
    figure, axis = plt.subplots(figsize=(8, 0.45 * len(names) + 1.5))
    for place, name in enumerate(names):
        row = evaluation.families[name]
        axis.plot([row["expected_base"], row["expected_champion"]], [place, place], color=INK)
        axis.plot(row["expected_base"], place, "s", color=BASE)
        axis.plot(row["expected_champion"], place, "o", color=INK)
        axis.plot(row["expected_oracle"], place, "|", color=GOOD, ms=12)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel(
        f"expected thumbs-up: base (square), version {evaluation.champion} (dot), oracle"
    )
    return _save(figure, path)


def _save(figure, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
