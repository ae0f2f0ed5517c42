"""Which families tell something about a base, and what the gate does with the others."""

from burnish.learner.gate.calibration import calibrate

FAMILIES = {
    "never": [False] * 11 + [True],
    "sometimes": [True, False],
    "always": [True] * 12,
}


def test_what_the_base_hardly_ever_or_nearly_always_solves_is_not_rehearsed():
    found = calibrate(FAMILIES, FAMILIES.keys())
    assert (found.never, found.always) == (("never",), ("always",))
    assert found.unrehearsed == {"never", "always"}
    assert found.solved == {"never": (1, 12), "sometimes": (1, 2), "always": (12, 12)}
    assert found.notes == [
        "never left out, since the base hardly ever solves them",
        "always asked by the gate alone, since the base nearly always solves them",
    ]


def test_skill_as_a_whole_is_what_the_base_solves_sometimes():
    assert calibrate(FAMILIES, FAMILIES.keys()).counted == {"sometimes"}
    assert calibrate(FAMILIES, ()).counted == {"sometimes"}


def test_a_family_without_a_verdict_stays():
    found = calibrate({"a": []}, {"a"})
    assert found.unrehearsed == frozenset()
    assert found.notes == []


def test_packs_of_ones_own_are_taken_as_they_are():
    found = calibrate(FAMILIES, ())
    assert found.unrehearsed == frozenset()
    assert found.notes == []
