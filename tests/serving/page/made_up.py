"""What a service may tell the page, with one text wherever people or programs may have put theirs."""

from typing import Any


def fulfilled(body: dict[str, Any]):
    """What answers a request of the page with `body`."""
    return lambda route: route.fulfill(json=body)


def policy(text: str, *more: str) -> dict[str, Any]:
    """With a move for each text."""
    moves = [
        {"at": 1.0, "who": one, "what": one, "before": 1, "after": 2, "why": one}
        for one in (text, *more)
    ]
    made = {
        "version": 2,
        "created_at": 1.0,
        "gate_passed": False,
        "metrics": {"gate_skill": 0.5, **dict.fromkeys((text, *more), 1)},
    }
    return {
        "name": text,
        "champion": 2,
        "paused": {"at": 1.0, "who": text, "why": text},
        "challenger": 3,
        "previous": 1,
        "versions": [made],
        "history": moves,
    }


def version(text: str, *more: str) -> dict[str, Any]:
    """With a tag, a check, a family, a figure and a vote behind it for each text."""
    texts = (text, *more)
    gate = {
        "passed": False,
        "checks": [{"name": one, "value": 1, "passed": False, "says": one} for one in texts],
        "families": {one: [0.1, 0.2] for one in texts},
        "skill": 1,
        "asked": {},
    }
    votes = [f"local/{one}" for one in texts]
    lineage = {"feedback_ids": votes, "rule": text, "code": text, "steps": 1}
    shown = {
        "ref": text,
        "version": 2,
        "parent": 1,
        "created_at": 1.0,
        "aliases": list(texts),
        "sha256": text,
    }
    return {
        **shown,
        "metrics": dict.fromkeys(texts, 1),
        "lineage": lineage,
        "votes": len(votes),
        "gate_report": gate,
        "mlflow": "javascript:hit=1",
    }


def ticks(text: str) -> dict[str, Any]:
    tick = {
        "kind": "update",
        "policy": "default",
        "did": text,
        "why_not": text,
        "at": 1.0,
        "seconds": 2,
    }
    return {"available": True, "why": text, "ticks": [tick], "problem": text}


def vote(text: str) -> dict[str, Any]:
    steps = [
        {"step": "saved", "at": 1.0},
        {"step": "weighed", "at": 1.0, "weight": 0.5, "why": text},
    ]
    fate = {"policy": text, "steps": steps, "skipped": None, "waits": text}
    given = {
        "id": text,
        "name": "comment",
        "value": text,
        "time": "2026-01-01T00:00:00Z",
        "user": text,
    }
    return {**given, "interaction_id": text, "fate": fate}


def report() -> dict[str, Any]:
    rate = {"share": 0.6, "low": 0.45, "high": 0.73, "count": 50}
    of = {"liked": rate, "enough": True, "foreseen": {"foreseen": 0.62}}
    versions = [{**of, "version": n} for n in range(1, 9)]
    versions.append(
        {"version": 9, "liked": {**rate, "count": 3}, "enough": False, "foreseen": None}
    )
    compared = {"now": rate, "before": {**rate, "share": 0.4}, "low": 0.02, "high": 0.37}
    figures = {"votes": 403, "people": 61, "at": 1.0, "refused": 1, "updates": 5, "advice": []}
    told = {"verdict": "learning", "versions": versions, "comparison": compared, **figures}
    return {"available": True, "why": None, "report": {**told, "discrimination": {"auroc": 0.7}}}
