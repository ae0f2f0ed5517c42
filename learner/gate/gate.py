"""The gate: held-out checks that a candidate must pass before it serves anyone.

A first look bounds how the candidate answers (manner.py). Then it has to show that it is no worse at anything
than the champion and the base (comparison.py), neither at the packs' tasks nor at the probes, on questions and
seeds that are fixed for each base model. The same candidate gets the same report.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from burnish.learner.gate import checks, manner
from burnish.learner.gate.answers import BASE, CANDIDATE, Answer, Panel
from burnish.learner.gate.calibration import SOLVED, Calibration, calibrate
from burnish.learner.gate.checks import mean
from burnish.learner.gate.comparison import Comparison, Effort, Line, compare
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.logged import Logged, check_logged
from burnish.learner.gate.plugins import OwnGate, Trial
from burnish.learner.gate.probes import probes
from burnish.learner.gate.report import Check, GateReport
from burnish.learner.gate.suite import Stream, Suite


@dataclass(frozen=True)
class Gate:
    """All that is the same for every candidate on one base. `probes` by the limit that they are held to;
    `notes`: what is left out, and why; `own`: the product's gates."""

    suite: Suite
    limits: GateLimits
    calibration: Calibration
    probes: Mapping[str, Sequence[Stream]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    own: Sequence[OwnGate] = ()

    @property
    def streams(self) -> dict[str, Stream]:
        """Of families and probes, by name."""
        asked = {stream.name: stream for of in self.probes.values() for stream in of}
        return {**self.suite.streams, **asked}

    @property
    def lines(self) -> list[Line]:
        """What must not get worse, and by how much."""
        families = [
            Line(family, self.limits.family_margin, counts=family in self.calibration.counted)
            for family in self.suite.streams
            if family not in self.calibration.never
        ]
        return families + [
            Line(stream.name, getattr(self.limits, limit), counts=False)
            for limit, streams in self.probes.items()
            for stream in streams
        ]


def prepare(suite: Suite, alone: Panel, limits: GateLimits, own: Sequence[OwnGate] = ()) -> Gate:
    """A gate fitted to the base by its own answers; `alone`: the panel without anybody else."""
    with alone.seated():
        answers = alone.answers(suite.questions)[BASE]
        answered = list(zip(suite.questions, answers, strict=True))
        verdicts: dict[str, list[bool]] = defaultdict(list)
        for question, answer in answered:
            verdict = suite.verdict(question, answer)
            if verdict is not None:
                verdicts[question.task.family].append(verdict)
        calibration = calibrate(verdicts, suite.source.calibrated)
        kept: dict[str, list[Stream]] = {}
        out: list[str] = []
        offered = probes(suite.model, suite.source, suite.max_tokens, answered)
        for limit, streams in offered.items():
            for stream in streams:
                questions = [stream.question(n) for n in range(suite.probed)]
                given = zip(questions, alone.answers(questions)[BASE], strict=True)
                well = [v for v in (suite.verdict(*pair) for pair in given) if v is not None]
                if mean(well) < SOLVED[0]:
                    out.append(stream.name)
                else:
                    kept.setdefault(limit, []).append(stream)
    notes = [f"not asked, since the base hardly ever does well: {', '.join(out)}"] if out else []
    return Gate(suite, limits, calibration, kept, notes, own)


def evaluate(gate: Gate, panel: Panel, logged: Logged | None = None) -> GateReport:
    """Put the panel's candidate through the gate; `logged`: what people asked and said, where there is
    a reward model of it."""
    started = time.monotonic()
    suite, limits, lines, streams = gate.suite, gate.limits, gate.lines, gate.streams

    def ask(wanted: Sequence[tuple[str, int]]) -> list[tuple[float | None, ...]]:
        questions = [streams[name].question(number) for name, number in wanted]
        answers = panel.answers(questions)
        return [
            tuple(
                _score(suite.verdict(question, answers[policy][at]))
                for policy in (CANDIDATE, *panel.references)
            )
            for at, question in enumerate(questions)
        ]

    with panel.seated():
        looked = panel.answers(suite.questions)
        effort = Effort(suite.per_family, most=limits.most_tasks, alpha=limits.alpha)
        found = compare(lines, panel.references, limits.skill_margin, ask, effort)
        checked = _proven(gate, panel, found) if suite.streams else [checks.tasks(0)]
        if suite.questions:
            checked += _manner(gate, panel, looked)
        if logged is not None:
            checked += check_logged(panel, logged, limits)
        trial = Trial(panel, limits)
        checked += [check for own in gate.own for check in own.checks(trial)]
    places = {policy: at for at, policy in enumerate((CANDIDATE, *panel.references))}
    means = {
        family: found.rates[family].means
        for family in suite.streams
        if family in found.rates and found.rates[family].count
    }
    return GateReport(
        passed=all(check.passed for check in checked),
        base_sha256=suite.model.sha256,
        suite=suite.digest,
        tasks=len(suite.questions),
        asked={name: rates.count for name, rates in found.rates.items()},
        seconds=round(time.monotonic() - started, 3),
        checks=checked,
        skill=mean([rates[0] for rates in means.values()]),
        base_skill=mean([rates[places[BASE]] for rates in means.values()]),
        families={name: (rates[places[BASE]], rates[0]) for name, rates in means.items()},
        answers=panel.drawn,
        notes=[*gate.calibration.notes, *gate.notes],
    )


def _proven(gate: Gate, panel: Panel, found: Comparison) -> list[Check]:
    """What was compared with each reference: skill, families, and the probes limit by limit."""
    families = [line.name for line in gate.lines if line.name in gate.suite.streams]
    groups = {"families": families} | {
        limit: [stream.name for stream in streams] for limit, streams in gate.probes.items()
    }
    checked: list[Check] = []
    for reference in panel.references:
        if found.whole:
            checked.append(checks.skill(found, reference))
        for what, names in groups.items():
            if names:
                checked.append(checks.families(found, reference, names, what))
    return checked


def _manner(gate: Gate, panel: Panel, looked: Mapping[str, Sequence[Answer]]) -> list[Check]:
    """How the candidate answers the first look."""
    suite, ours = gate.suite, looked[CANDIDATE]
    asked = [str(q.task.messages[-1].get("content") or "") for q in suite.questions]
    checked = [manner.kl(suite.model, panel.rollouts(suite.questions, ours), gate.limits)]
    for reference in panel.references:
        beside = manner.Beside(reference, asked, looked[reference], ours)
        checked += [check(beside, gate.limits) for check in manner.CHECKS]
    return checked


def _score(verdict: bool | None) -> float | None:
    return None if verdict is None else float(verdict)
