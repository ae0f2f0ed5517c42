"""Makes a report of what was read: figures, fits within bounds, then words.

What fits found is taken over from an earlier report where none are to be made, and where there was no
time for them.
"""

from __future__ import annotations

from burnish.learner.report.advice import advise
from burnish.learner.report.data import Bounds, ReportData
from burnish.learner.report.figures import Report, VersionFigures
from burnish.learner.report.versions import survey
from burnish.learner.report.words import findings, verdict


def make(data: ReportData, *, bounds: Bounds | None, earlier: Report | None = None) -> Report:
    """The report; without `bounds` no reward model is fitted."""
    report = survey(data)
    if earlier is not None:
        report = _with_fits_of(earlier, report)
    if bounds is not None:
        report = _with_fits(data, report, bounds)
    return said(report)


def said(report: Report) -> Report:
    """The report with its verdict, sentences and advice."""
    report = report.model_copy(update={"verdict": verdict(report)})
    return report.model_copy(update={"findings": findings(report), "advice": advise(report)})


def _with_fits(data: ReportData, report: Report, bounds: Bounds) -> Report:
    # torch: only where something is fitted
    from burnish.learner.report.fits import Fits, NoTime, discriminate, foresee, to_foresee

    fits = Fits(data, bounds)
    found = discriminate(data, fits)
    changed: dict[int, VersionFigures] = {}
    for version in to_foresee(report.versions):
        try:
            changed[version.version] = foresee(data, version, fits)
        except NoTime:
            break
    return report.model_copy(
        update={
            "discrimination": found,
            "versions": [changed.get(v.version, v) for v in report.versions],
            "fitted_at": data.at,
        }
    )


def _with_fits_of(earlier: Report, report: Report) -> Report:
    known = {v.version: v for v in earlier.versions}

    def taken_over(version: VersionFigures) -> VersionFigures:
        old = known.get(version.version)
        if old is None:
            return version
        return version.model_copy(update={"foreseen": old.foreseen, "unforeseen": old.unforeseen})

    return report.model_copy(
        update={
            "discrimination": earlier.discrimination,
            "versions": [taken_over(version) for version in report.versions],
            "fitted_at": earlier.fitted_at,
        }
    )
