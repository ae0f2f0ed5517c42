"""Partial pooling: families with little of their own are thought to be like the others."""

import pytest
from burnish.learner.gate.pooling import FIRST, Seen, pooled, whole


def family(gained: int, lost: int, same: int) -> Seen:
    return Seen().plus([1.0] * gained + [-1.0] * lost + [0.0] * same)


def test_before_anything_is_seen_no_change_is_guessed():
    assert [guess.mean for guess in pooled([Seen(), Seen()])] == [0.0, 0.0]
    assert whole([Seen()]) == FIRST


def test_a_family_with_few_tasks_is_guessed_by_the_others():
    alike = [family(10, 10, 80)] * 8
    *_, small = pooled([*alike, family(0, 2, 2)])
    assert -0.1 < small.mean < 0.0, "half of four tasks lost says little"


def test_a_family_with_many_tasks_speaks_for_itself():
    alike = [family(10, 10, 80)] * 8
    *_, large = pooled([*alike, family(5, 105, 90)])
    assert large.mean == pytest.approx(-0.5, abs=0.05)


def test_variances_are_pooled_too():
    calm, wild = family(0, 0, 200), family(60, 60, 80)
    few, many = pooled([family(0, 0, 4), wild]), pooled([calm, wild])
    assert few[0].variance > 4 * many[0].variance
