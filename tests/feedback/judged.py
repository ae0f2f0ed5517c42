"""Judgements for tests, with what a test does not speak of filled in."""

from burnish.feedback.judgements import Judgement


def judged(
    name: str = "thumbs", value: float | str = "up", user: str | None = "ann", **changes
) -> Judgement:
    fields = {
        "id": f"{user}/{name}/{changes.get('interaction_id', 'i1')}/{changes.get('time', 0.0)}",
        "tenant": "acme",
        "user": user,
        "interaction_id": "i1",
        "name": name,
        "value": value,
        "time": 0.0,
    }
    return Judgement(**{**fields, **changes})


def vote(user: str | None, on: str, value: float, time: float = 0.0, **changes) -> Judgement:
    """A score of `value` in [-1, 1]."""
    return judged("score", (value + 1) / 2, user, interaction_id=on, time=time, **changes)
