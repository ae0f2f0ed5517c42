"""Drift of what people ask and of what they like."""

import math
from dataclasses import replace

import numpy as np
import pytest
from burnish.learner.alarms import drift
from burnish.learner.alarms.limits import AlarmLimits
from burnish.learner.report.data import Bounds, ReportData

from tests.learner.report.rows import SIZE, judged

LIMITS = AlarmLimits()


def tastes(data, version, limits, **how):
    """However long the fits take."""
    return drift.tastes(data, version, limits, bounds=Bounds(answers=600, seconds=math.inf), **how)


def look(measure, data, version=2):
    return measure(data, version, LIMITS, since=0.0, is_open=False)


@pytest.mark.parametrize("measure", [drift.prompts, tastes])
def test_where_nothing_drifts_nothing_opens(measure):
    found = look(measure, judged({1: 600, 2: 400}, taste=0.35))
    assert found.state == "quiet", found.says
    assert found.count == 400


@pytest.mark.parametrize("measure", [drift.prompts, tastes])
def test_too_few_judged_answers_say_nothing(measure):
    found = look(measure, judged({1: 20, 2: 400}, taste=0.35))
    assert found.state == "few"


def test_people_who_turn_their_tastes_around_open_it():
    data = judged({1: 600, 2: 400}, taste=0.4, believed={2: 0.1})
    found = look(tastes, data)
    assert found.opens, found.says


def asked(kinds: dict[int, int], share: float) -> ReportData:
    """Prompts of so many kinds, by version; a `share` of version 2's is of one that nobody asked before."""
    rng = np.random.default_rng(3)
    data = judged({1: 600, 2: 400}, taste=0.35)
    features = {}
    for key, vector in data.features.items():
        version = int(key[0].split("-")[1])
        own = version == 2 and rng.random() < share
        prompt = rng.normal(scale=0.3, size=SIZE // 3)
        prompt[SIZE // 3 - 1 if own else rng.integers(kinds[version])] += 5.0
        features[key] = np.concatenate([prompt, vector[SIZE // 3 :]]).astype(np.float16)
    return replace(data, features=features)


def test_prompts_of_a_new_kind_open_it():
    found = look(drift.prompts, asked({1: 2, 2: 2}, share=0.6))
    assert found.opens, found.says
    assert "prompts that are of other kinds than before: 5" in found.says


def test_kinds_in_other_proportions_open_it():
    assert look(drift.prompts, asked({1: 3, 2: 1}, share=0.0)).opens
    assert not look(drift.prompts, asked({1: 3, 2: 3}, share=0.0)).opens
