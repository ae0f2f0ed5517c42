"""What the benchmark of learning calls style alone, and when its goals are met."""

import pytest
from burnish.learner.tasks.ember import FAMILIES, STYLES
from burnish.ops.bench.learning import Exam
from burnish.ops.bench.lib.learning_report import People, check_goals, plot, print_tables
from burnish.ops.simulate.population import draw_population

PEOPLE = draw_population(families=list(FAMILIES), styles=STYLES, seed=0)
TWO = list(FAMILIES)[:2]


def exam(liked: int, right: int) -> Exam:
    """Ten answers in each of two families, so many of them in the liked style, so many right."""
    families = [family for family in TWO for _ in range(10)]
    other = {f: next(s for s in STYLES if s != PEOPLE.preferred[f]) for f in TWO}
    styles = [PEOPLE.preferred[f] if n % 10 < liked else other[f] for n, f in enumerate(families)]
    return Exam(families, [n % 10 < right for n in range(20)], styles, PEOPLE)


def test_skill_that_comes_or_goes_is_no_way_in_style():
    base = exam(liked=3, right=5)
    skills = base.by_family(base.right)
    assert exam(3, 10).style_alone(skills) == base.style_alone(skills)
    assert exam(9, 0).style_alone(skills) > base.style_alone(skills)


def test_every_answer_in_the_liked_style_is_the_whole_way():
    base = exam(liked=3, right=5)
    skills = base.by_family(base.right)
    assert exam(10, 5).style_alone(skills) == pytest.approx(base.style_alone(skills, liked=True))
    assert exam(10, 5).in_style == dict.fromkeys(TWO, 1.0)


def run(*ways: float, **changes: float) -> dict:
    exams = [
        {"votes": 1000 * n, "way": way, "skill": 0.8, "least_liked_style": 0.6, "kl": 0.001}
        for n, way in enumerate(ways, start=1)
    ]
    return {"seed": 0, "base_skill": 0.8, "exams": [{**e, **changes} for e in exams]}


def met(people: People, *runs: dict) -> dict[str, bool]:
    return {goal.line: goal.met for goal in check_goals(people, runs)}


def test_goals_are_of_the_mean_over_the_populations():
    goals = met(People.steady, run(0.4, 0.7, 0.9), run(0.7, 0.8, 0.9))
    assert goals["share of the way at 1,000 votes, style alone"]
    assert goals["share of the way at 3,000 votes, style alone"]
    assert not met(People.steady, run(0.4))["share of the way at 1,000 votes, style alone"]


def test_a_family_that_is_left_behind_and_a_skill_that_is_lost_are_seen():
    goals = met(People.steady, run(0.9), run(0.9, least_liked_style=0.2, skill=0.7))
    assert not goals["the liked style in the worst family"]
    assert not goals["skill against the base"]


@pytest.mark.parametrize(("way", "share"), [(0.3, 0.25), (0.5, 0.5), (0.95, None)])
def test_the_votes_that_lead_as_far_as_kto_are_a_share_of_its_own(way: float, share: float | None):
    beside = {**run(0.4, 0.6, 0.8, 0.9), "baselines": {"kto": {"votes": 4000, "way": way}}}
    goals = [g for g in check_goals(People.steady, [beside]) if "KTO" in g.line]
    assert [(goal.value, goal.met) for goal in goals] == [(share, share == 0.25)]


def test_noise_must_move_nothing():
    assert all(met(People.noise, run(0.0)).values())
    assert not all(met(People.noise, run(0.0, kl=0.05)).values())


@pytest.mark.parametrize(("ways", "recovered"), [((0.6, 0.7), True), ((0.6, 0.2), False)])
def test_a_change_of_tastes_is_over_when_the_way_is_as_far_as_before(ways, recovered):
    assert list(met(People.change, run(*ways)).values()) == [recovered]


def test_what_serving_would_choose_is_held_to_goals_of_its_own():
    goals = met(People.steady, run(0.5, best_of_8_base=0.55, best_of_8_version=0.4))
    assert goals["the same at 1,000 votes by the best of 8 of the base's answers"]
    assert not goals["the same at 1,000 votes by the best of 8 of the version's answers"]


@pytest.mark.parametrize("people", list(People))
def test_tables_and_plot_show_every_run_and_baseline(people: People, tmp_path, capsys):
    kto = {"votes": 3000, "way": 0.41, "skill": 0.8}
    runs = [{**run(0.4, 0.6, 0.8), "baselines": {"kto": kto}}, {**run(0.2, 0.4, 0.6), "seed": 1}]
    runs[1]["baselines"] = {"kto": kto}
    print_tables(runs, check_goals(people, runs))
    told = capsys.readouterr().out
    assert "80%, 60%" in told
    assert "3,000 by KTO" in told
    assert plot(people, runs, tmp_path / "learning.png").stat().st_size > 0
