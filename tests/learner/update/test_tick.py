"""A whole update: what becomes of judgements, and why at times nothing is trained."""

import shutil

import pytest
from burnish.feedback.contract import FATE_PREFIX
from burnish.learner.intake.upsert import upsert
from burnish.learner.rules import RULES
from burnish.learner.tables import AlarmRow, AttemptRow
from burnish.learner.training import checkpoint
from burnish.learner.training.checkpoint import TrainingProgress
from burnish.learner.update.tick import Learner
from sqlalchemy import select

from tests.learner.conftest import interaction, latest_ticks, thumbs
from tests.learner.update.conftest import add_judged, lineage


@pytest.mark.parametrize("rule", sorted(RULES))
def test_judgements_become_a_version_that_serves(learner_with, redis_client, rule):
    learner = learner_with(rule=rule)
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.why_not is None, tick
    assert tick.did.startswith("learnt from 12 new judgements in 2 steps and registered default@2")
    champion = learner.registry.champion("default")
    assert champion.version == 2
    assert champion.parent == 1
    assert len(champion.lineage["feedback_ids"]) == 12
    assert champion.gate_report["passed"]
    assert ("preference_weight" in tick.counts) == (rule == "reward_model"), "the report reads it"
    assert lineage(learner.database) == {2: [f"local/fb-{n:04}" for n in range(1, 13)]}
    assert latest_ticks(redis_client)[0]["counts"]["version"] == 2
    fate = redis_client.hgetall(FATE_PREFIX + "local/fb-0003")
    assert (fate[b"version"], fate[b"passed"]) == (b"2", b"1")
    assert 0 < float(fate[b"weight"]) <= 1


def test_the_next_version_goes_on_from_the_last(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    add_judged(learner.database, range(13, 19))
    tick = learner.tick("default")
    assert tick.counts["version"] == 3
    assert tick.counts["parent"] == 2
    assert tick.counts["judgements"] == 6
    with learner.database.read() as session:
        folders = [
            learner.settings.checkpoints / "default" / row.id
            for row in session.scalars(select(AttemptRow).order_by(AttemptRow.version))
        ]
    older, newer = (checkpoint.load(folder) for folder in folders)
    assert older is not None
    assert newer is not None
    steps = [
        next(v for k, v in c.optimiser.items() if k.startswith("step")) for c in (older, newer)
    ]
    assert steps == [2, 4], "the optimiser's moments are the parent's"
    events = lineage(learner.database)
    assert not set(events[2]) & set(events[3])


def progress_of(learner: Learner, version: int) -> TrainingProgress:
    with learner.database.read() as session:
        query = select(AttemptRow.id).where(AttemptRow.version == version)
        saved = checkpoint.load(
            learner.settings.checkpoints / "default" / session.scalars(query).one()
        )
    assert saved is not None
    return saved.progress


def test_every_so_often_one_begins_anew_at_the_base_and_trains_longer(learner_with):
    learner = learner_with(rebuild_every=2)
    for first in (1, 13, 19, 25):
        add_judged(learner.database, range(first, first + (12 if first == 1 else 6)))
        learner.tick("default")
    made = [progress_of(learner, version) for version in (2, 3, 4, 5)]
    assert [progress.since_base for progress in made] == [1, 0, 1, 0]
    assert [progress.step for progress in made] == [2, 8, 2, 8]
    assert len({progress.seed for progress in made}) == 4


def test_where_one_that_began_anew_was_refused_the_next_goes_on_from_the_champion(learner_with):
    """Otherwise each would begin anew, fall behind the champion again, and nothing would be learnt any more."""
    learner = learner_with(rebuild_every=2)
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    strict = learner_with(rebuild_every=2, gate_max_kl=1e-9, learning_rate=0.05)
    for first in (13, 19):
        add_judged(learner.database, range(first, first + 6))
        strict.tick("default")
    add_judged(learner.database, range(25, 31))
    learner.tick("default")
    refused, again, on = (progress_of(learner, version) for version in (3, 4, 5))
    assert [p.parent for p in (refused, again, on)] == [2, 2, 2]
    assert [p.since_base for p in (refused, again, on)] == [0, 2, 2]
    assert len({p.seed for p in (refused, again, on)}) == 3, "what is drawn differs, too"
    assert learner.registry.champion_version("default") == 5


def test_what_is_too_long_to_learn_from_is_counted(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    long = {"index": 0, "text": "x", "finish_reason": "stop", "token_ids": [40] * 49}
    with learner.database.write() as session:
        upsert(session, [interaction(13, completions=[long]), thumbs(13)])
    tick = learner.tick("default")
    assert tick.counts["judgements"] == 13
    assert tick.counts["too_long"] == 1


def test_where_all_is_too_long_the_limits_are_told(learner_with):
    learner = learner_with(max_prompt_tokens=5)
    add_judged(learner.database, range(1, 13))
    assert learner.tick("default").why_not == (
        "of 12 judged answers none is short enough: at most 5 tokens of prompt and 48 of answer"
    )


def test_a_version_on_another_base_is_not_learnt_on(learner_with):
    learner = learner_with()
    learner.registry.ensure_base("default", learner.settings.model, "f" * 64)
    add_judged(learner.database, range(1, 13))
    why = learner.tick("default").why_not
    assert "default@1 stands on another base model (ffffffffffff is registered" in why
    assert [v.version for v in learner.registry.versions("default")] == [1]


def test_a_champion_that_was_deleted_is_told_and_not_made_anew(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    client = learner.registry._store._client
    client.delete_registered_model_alias("default", "champion")
    add_judged(learner.database, range(13, 19))
    assert "names no champion of 'default'" in learner.tick("default").why_not
    client.rename_registered_model("default", "kept")
    assert "names no champion of 'default'" in learner.tick("default").why_not
    assert learner.registry.champion("default") is None


def test_a_checkpoint_that_cannot_be_read_costs_only_its_optimiser(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    for written in (learner.settings.checkpoints / "default").glob("*/progress.json"):
        written.write_text("no JSON")
    add_judged(learner.database, range(13, 19))
    assert learner.tick("default").counts["version"] == 3


def test_answers_of_another_tokenizer_are_passed_over(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    with learner.database.write() as session:
        beyond = interaction(99, prompt_ids=[10**6])
        upsert(session, [beyond, thumbs(99)])
    tick = learner.tick("default")
    assert (tick.counts["version"], tick.why_not) == (2, None)


def test_too_few_judgements_train_nothing_and_say_so(learner_with, redis_client):
    learner = learner_with()
    add_judged(learner.database, range(1, 4))
    tick = learner.tick("default")
    assert tick.did == "trained nothing"
    assert "3 new judgements" in tick.why_not
    assert latest_ticks(redis_client)[0]["why_not"] == tick.why_not
    add_judged(learner.database, range(4, 6))
    assert "first update wants 8" in learner.tick("default").why_not


def test_judgements_that_all_agree_train_nothing(learner_with):
    learner = learner_with()
    with learner.database.write() as session:
        events = [interaction(n) for n in range(1, 11)] + [thumbs(n) for n in range(1, 11)]
        upsert(session, events)
    tick = learner.tick("default")
    assert tick.why_not == "all 10 judged answers got the same reward"
    assert "0 new judgements" in learner.tick("default").why_not


def test_a_refused_version_is_kept_with_its_report_and_its_judgements_count_again(learner_with):
    strict = learner_with(gate_max_kl=1e-9, learning_rate=0.05)
    add_judged(strict.database, range(1, 13))
    tick = strict.tick("default")
    assert "KL to the base is" in tick.why_not
    assert strict.registry.champion("default").version == 1
    assert strict.registry.get("default", 2).gate_report["passed"] is False
    assert "0 new judgements" in strict.tick("default").why_not, (
        "the same judgements alone are not tried again"
    )
    add_judged(strict.database, range(13, 19))
    mild = learner_with()
    tick = mild.tick("default")
    assert tick.counts["parent"] == 1
    assert tick.counts["judgements"] == 18


def test_a_challenger_meets_a_share_of_users_first_and_no_other_is_made_meanwhile(learner_with):
    learner = learner_with(promotes="challenger")
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert "which a share of users meets first" in tick.did
    add_judged(learner.database, range(13, 25))
    assert "default@2 is tried on a share of users first" in learner.tick("default").why_not
    assert learner.registry.champion("default").version == 1
    assert learner.registry.get("default", 2).aliases == ("challenger",)


def test_after_a_rollback_training_starts_from_the_version_that_serves(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    add_judged(learner.database, range(13, 19))
    learner.tick("default")
    learner.registry.rollback("default")
    add_judged(learner.database, range(19, 25))
    tick = learner.tick("default")
    assert tick.counts["parent"] == 2
    assert tick.counts["version"] == 4
    assert tick.counts["judgements"] == 12, "those of the version that was rolled back count again"


def test_policies_learn_apart(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13), "default")
    add_judged(learner.database, range(21, 45), "shop")
    learner.tick("default")
    assert learner.tick("shop").counts["judgements"] == 24
    assert learner.registry.champion("shop").version == 2


def test_a_lease_held_by_another_worker_is_no_error(learner_with, lease_on):
    learner = learner_with()
    with lease_on(learner.database, "update:default"):
        assert learner.tick("default") is None


def test_without_its_checkpoint_a_parent_is_fetched_from_the_registry(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.tick("default")
    shutil.rmtree(learner.settings.checkpoints)
    add_judged(learner.database, range(13, 19))
    assert learner.tick("default").counts["version"] == 3


def test_a_pack_of_ones_own_is_rehearsed_and_its_bad_lines_told(learner_with, tmp_path):
    pack = tmp_path / "ours.jsonl"
    ask = '{"messages": [{"role": "user", "content": "%s?"}], "check": {"contains": "a"}}'
    pack.write_text("\n".join([*(ask % number for number in range(12)), "broken"]))
    learner = learner_with(tasks=str(pack), gate_tasks_per_family=12)
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.why_not is None, tick
    assert tick.counts["tasks"] == 3, "every fourth is the gate's"
    assert "(tasks: ours.jsonl line 13: no JSON" in tick.did
    assert "skill" in tick.counts


def test_the_built_in_pack_is_calibrated_to_the_base_and_the_tick_says_so(learner_with):
    learner = learner_with(tasks="auto", gate_tasks_per_family=1)
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.counts["version"] == 2
    assert "sums, " in tick.did
    assert "left out, since the base hardly ever solves them" in tick.did
    assert "sums" in learner.calibration.never
    assert "sums" not in learner.registry.get("default", 2).gate_report["families"]


def test_packs_that_cannot_be_used_train_nothing_and_no_judgement_is_lost(learner_with, tmp_path):
    learner = learner_with(tasks=str(tmp_path / "none.jsonl"))
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.why_not.startswith("BURNISH_TASKS: ")
    assert "none.jsonl cannot be read" in tick.why_not
    assert learner_with().tick("default").counts["judgements"] == 12


def test_a_model_without_a_chat_template_is_asked_in_plain_text_and_the_tick_says_so(
    learner_with, monkeypatch
):
    learner = learner_with()
    monkeypatch.setattr(learner.model.tokenizer, "chat_template", None)
    add_judged(learner.database, range(1, 13))
    tick = learner.tick("default")
    assert tick.counts["version"] == 2
    assert "(tasks: the model has no chat template: it is asked in plain text)" in tick.did


def test_an_open_alarm_keeps_the_champion(learner_with):
    """What else does is told in test_holding.py."""
    learner = learner_with()
    add_judged(learner.database, range(1, 13))
    learner.registry.ensure_base("default", learner.settings.model, learner.model.sha256)
    with learner.database.write() as session:
        fields = {"policy": "default", "version": 1, "name": "length", "says": "twice as long"}
        session.add(AlarmRow(id="alarm-1", opened_at=1.0, **fields))
    tick = learner.tick("default")
    assert tick.did.endswith("registered default@2, which is held back")
    assert tick.why_not == "an alarm is open: length of default@1: twice as long"
    assert learner.registry.champion_version("default") == 1
