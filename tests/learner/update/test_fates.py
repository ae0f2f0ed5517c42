"""What an update made of each judgement is told: its weight and why, the version, what was left out."""

import redis
from burnish.feedback.contract import FATE_PREFIX
from burnish.feedback.judgements import Judgement
from burnish.feedback.trust.weighing import Weights
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.update.fates import tell_learnt, tell_weighed
from burnish.learner.update.judged import fates_of
from burnish.serving.registry import PolicyVersion


def judged(name: str, value: str, share: float = 1.0, answer: str = "i") -> Judgement:
    return Judgement(
        id=name,
        tenant="local",
        user="ann",
        interaction_id=answer,
        session_id="s" if share < 1 else None,
        name=name,
        value=value,
        time=1.0,
        share=share,
    )


def answered(*judgements: Judgement) -> JudgedAnswer:
    return JudgedAnswer(
        interaction_id="i",
        choice=0,
        version=1,
        staleness=0,
        tenant="local",
        user="ann",
        prompt_ids=(1,),
        token_ids=(2,),
        logprobs=(0.0,),
        judged_at=1.0,
        judgements=judgements,
    )


def test_a_judgement_counts_by_its_kind_and_by_who_gave_it():
    given = [judged("thumbs", "up"), judged("correction", "x"), judged("comment", "hm")]
    weights = Weights((0.5, 1.0, 0.0), {}, reasons=("cap", "", ""))
    found = fates_of("default", [answered(*given)], weights)
    told = {event: (fate.weight, fate.less) for event, fate in found.items()}
    assert told == {
        "local/thumbs": (0.5, "cap"),
        "local/correction": (0.6, "correction"),
        "local/comment": (0.0, "comment"),
    }


def test_what_a_session_was_told_counts_once_for_all_its_answers():
    both = [answered(judged("thumbs", "up", 0.5)), answered(judged("thumbs", "up", 0.5))]
    (fate,) = fates_of("default", both, Weights((1.0, 1.0), {}, reasons=("", ""))).values()
    assert fate.weight == 1.0


def test_serving_can_read_what_became_of_each(redis_client: redis.Redis):
    weighed = fates_of(
        "default", [answered(judged("thumbs", "up"))], Weights((1.0,), {}, reasons=("",))
    )
    tell_weighed(redis_client, "default", weighed, ["local/thumbs", "local/ancient"])
    version = PolicyVersion("default", 7, 6, "sha", "base", 1.0)
    tell_learnt(redis_client, version, "update-1", False, ["local/thumbs"])
    found = redis_client.hgetall(FATE_PREFIX + "local/thumbs")
    assert (found[b"weight"], found[b"version"], found[b"passed"]) == (b"1.0", b"7", b"0")
    assert redis_client.hget(FATE_PREFIX + "local/ancient", "skipped") == b"old"


def test_an_update_goes_on_while_redis_is_away():
    client = redis.Redis(port=1)
    tell_weighed(client, "default", {}, ["local/thumbs"])
