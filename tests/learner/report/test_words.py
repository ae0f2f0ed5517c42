"""The report in sentences, and what would help most."""

import pytest
from burnish.feedback.judgements import Worth
from burnish.learner.report.advice import RULES, SHOWN
from burnish.learner.report.data import Bounds, ReportData
from burnish.learner.report.figures import Report
from burnish.learner.report.make import make
from burnish.learner.report.words import HEADLINES
from burnish.learner.reward.signals import SignalWorth

from tests.learner.report.rows import answer, judged, key, update, vote, voted

ENOUGH = Bounds(answers=2000, seconds=600.0)


def report_on(data: ReportData) -> Report:
    return make(data, bounds=ENOUGH)


def said(report: Report) -> str:
    return "\n".join(report.findings)


def advised(report: Report) -> list[str]:
    return [advice.name for advice in report.advice]


def test_more_likes_are_said_with_their_counts():
    report = report_on(voted({1: (209, 380), 7: (262, 410)}))
    assert report.findings[0] == (
        "Version 7 is liked more than version 1: 64 % of 410 against 55 % of 380, a difference of 9"
        " points (interval 2 to 16)."
    )
    assert report.verdict == "learning"


def test_pooled_versions_are_named_from_first_to_last():
    report = report_on(voted({1: (150, 300), 2: (100, 150), 3: (100, 150)}))
    assert report.findings[0].startswith(
        "Versions 2 to 3 are liked more than version 1: 67 % of 300"
    )


def test_fewer_likes_are_said_too():
    report = report_on(voted({1: (262, 410), 7: (209, 380)}))
    assert report.findings[0].startswith("Version 7 is liked less than version 1: 55 % of 380")
    assert report.verdict == "worse"


def test_too_few_votes_are_named():
    report = report_on(voted({1: (20, 40), 2: (3, 5)}))
    assert report.verdict == "too few votes"
    assert "40 on version 1, 5 on version 2" in report.findings[0]
    assert "few_votes" in advised(report)


def test_of_noise_it_says_that_nothing_can_be_learned_and_why():
    report = report_on(judged({1: 300, 2: 200}, taste=0.0, people=30, seed=2))
    assert report.verdict == "nothing to learn"
    assert HEADLINES[report.verdict] == "No: nothing can be learned from these votes."
    (told,) = [
        finding for finding in report.findings if finding.startswith("Nothing can be learned")
    ]
    assert "guessing is right half the time" in told
    assert (
        "people judge at random, want opposite things, or judge what is not in the answer" in told
    )
    assert advised(report)[0] == "noise"
    assert "hacking" not in said(report)


def test_a_little_noise_may_hide_something_and_it_says_so():
    report = report_on(judged({1: 90}, taste=0.0, seed=1))
    assert report.discrimination.is_guessing
    assert "A weak preference may be hidden in them" in said(report)


@pytest.mark.parametrize("learnt", [0.85, 0.0])
def test_what_is_learnt_from_before_it_is_shown_is_no_noise_yet(learnt: float):
    made = update(2, preference_weight=learnt)
    report = report_on(judged({1: 90}, taste=0.0, seed=1, updates=[made]))
    assert report.discrimination.is_guessing
    assert (report.verdict == "nothing to learn") == (not learnt)
    assert ("noise" in advised(report)) == (not learnt)
    assert ("They are learnt from meanwhile, at 85 % of their weight" in said(report)) == bool(
        learnt
    )


def test_votes_that_all_say_the_same_teach_nothing():
    report = report_on(voted({1: (40, 40), 2: (40, 40)}))
    assert report.verdict == "nothing to learn"
    assert "all 80 say up, so nothing tells a better answer from a worse one" in said(report)
    assert advised(report)[0] == "one_sided"


def test_reward_hacking_is_called_by_its_name():
    data = judged({1: 300, 2: 150, 3: 150}, taste=0.2, shown={3: 0.9}, believed={3: 0.4})
    report = report_on(data)
    (told,) = [finding for finding in report.findings if "hacking" in finding]
    assert told.startswith(
        "Reward hacking: of version 3 a reward model fitted to earlier votes foresaw"
    )
    assert advised(report)[0] == "foreseen_above_observed"
    assert "version 3" in report.advice[0].says


def test_where_there_is_none_that_is_said_of_the_latest_version_alone():
    report = report_on(judged({1: 300, 2: 150, 3: 150}, taste=0.2))
    (told,) = [finding for finding in report.findings if "hacking" in finding]
    assert told.startswith("No sign of reward hacking: of version 3")


def test_answers_that_ask_back_more_are_told():
    answers = [
        answer(key(v, n), v, asks=n < 10 * v, tokens=10 * v) for v in (1, 3) for n in range(50)
    ]
    report = report_on(ReportData(policy="p", at=0.0, answers=answers))
    assert (
        "version 3 end in a question more often than those of version 1: 60 % of 50 against 20 %"
        in said(report)
    )
    assert "Answers of version 3 have 30 tokens, those of version 1 10." in said(report)
    assert "refuse" not in said(report)


def test_skill_is_told_beside_the_bases():
    report = report_on(voted({1: (20, 40), 2: (20, 40)}, updates=[update(2)]))
    assert (
        "At the gate version 2 had 80 % of the tasks right, the base 78 %; it is 0.020 nats per token"
        in said(report)
    )


def test_what_a_signal_is_worth_is_told_where_enough_people_judged_as_well():
    signals = {
        "copied": SignalWorth(Worth(0.6, 0.31), 0.8, 0.52, 63.0),
        "followup": SignalWorth(Worth(0.0, 0.02), 0.5, 0.5, 40.0),
        "edited": SignalWorth(Worth(-0.3, 0.15), 0.4, 0.5, 5.0),
    }
    report = report_on(voted({1: (60, 120)}, signals=signals))
    assert (
        "Answers that were copied are liked 80 % of the time (of 63 that people judged as well), others"
        " 52 %: where nobody judges that counts as 0.31 of a vote." in said(report)
    )
    assert "Answers that were followed up are liked 50 %" in said(report)
    assert "edited" not in said(report)


@pytest.mark.parametrize(
    ("weight", "told"),
    [(0.4, "where nobody judges it counts as up to 0.40 of a vote"), (0.0, "so it counts nowhere")],
)
def test_what_people_say_next_is_told_with_whether_it_counts(weight: float, told: str):
    made = update(2, followup_auroc=0.71, followup_weight=weight)
    report = report_on(voted({1: (20, 40), 2: (20, 40)}, updates=[made]))
    assert "from a disliked one 71 % of the time (guessing: 50 %)" in said(report)
    assert told in said(report)


@pytest.mark.parametrize(("on", "told"), [(1.0, "so that is learnt"), (0.0, "nothing is learnt")])
def test_what_comments_teach_is_told(on: float, told: str):
    made = update(2, commented=9.0, teacher_gap=0.06, teacher_on=on)
    report = report_on(voted({1: (20, 40), 2: (20, 40)}, updates=[made]))
    assert "expects 6 points more of likes, " in said(report)
    assert told in said(report)
    without = update(2, commented=0.0, teacher_gap=0.0, teacher_on=0.0)
    assert "Comments" not in said(report_on(voted({1: (20, 40)}, updates=[without])))


HEALTHY = judged({1: 500, 2: 400}, taste=0.3, shown={2: 0.9}, corrections=3, updates=[update(2)])


def changed(**changes) -> ReportData:
    return ReportData(**{**vars(HEALTHY), **changes})


def test_where_all_is_well_no_advice_is_given():
    report = report_on(HEALTHY)
    assert report.verdict == "learning"
    assert report.advice == []


def renamed(rater, named: bool = True):
    return [
        vote(v.answer, v.value, v.version, time=v.time, rater=rater(n, v), named=named)
        for n, v in enumerate(HEALTHY.votes)
    ]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("no_votes", ReportData(policy="p", at=0.0), "No vote has met an answer"),
        ("quarantine", changed(quarantined=400), "400 votes are in quarantine"),
        ("one_sided", voted({1: (97, 100)}), "97 % of the votes say up"),
        ("gate_refuses", changed(updates=[update(2), update(3, False), update(4, False)]), "refused 2 of the last 3 versions"),
        ("few_votes", voted({1: (50, 100), 2: (50, 100)}), "takes some 400 on each side"),
        ("few_people", changed(votes=renamed(lambda n, v: f"local/user/{n % 4}")), "of 4 people"),
        ("few_people", changed(votes=renamed(lambda n, v: v.rater if n % 3 == 0 else "local/user/bot")), "One person gave"),
        ("anonymous", changed(votes=renamed(lambda n, v: f"local/of/{n}", named=False)), "100 % of the votes name nobody"),
        ("features_missing", voted({1: (50, 100)}), "100 of 100 judged answers were read by no update"),
        ("tasks", changed(updates=[update(2, tasks=0)]), "name a pack in BURNISH_TASKS"),
        ("tasks", changed(updates=[update(2, gate_base_skill=0.0)]), "solves none"),
        ("tasks", changed(updates=[update(2, skill=0.99)]), "All rehearsed tasks are solved"),
        ("no_corrections", changed(corrections=0), "Nobody has sent a correction"),
    ],
)  # fmt: skip
def test_each_rule_speaks_where_it_applies(name: str, data: ReportData, says: str):
    report = report_on(data)
    told = RULES[name](report)
    assert told is not None
    assert says in told


def test_advice_is_short_and_ranked():
    data = voted({1: (40, 40)}, people=1, quarantined=100, updates=[update(2, False, tasks=0)])
    names = advised(report_on(data))
    assert len(names) == SHOWN
    assert names == [name for name in RULES if name in names]
    assert names[:2] == ["quarantine", "one_sided"]
