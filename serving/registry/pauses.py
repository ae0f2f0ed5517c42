"""Whether promotion is paused: a tag of the registered model, so that every process sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from burnish.serving.registry.model_store import ModelStore
from burnish.serving.registry.versions import Pause

_PAUSE = "burnish.pause"


def put(store: ModelStore, policy: str, pause: Pause) -> None:
    store.set_tag(policy, _PAUSE, json.dumps(asdict(pause)))


def lift(store: ModelStore, policy: str) -> None:
    store.drop_tag(policy, _PAUSE)


def read(tags: Mapping[str, str]) -> Pause | None:
    """As a registered model's tags tell; None while it is not paused. A tag that cannot be read is a pause too:
    somebody meant one."""
    told = tags.get(_PAUSE)
    if told is None:
        return None
    try:
        return Pause(**json.loads(told))
    except (ValueError, TypeError):
        return Pause(0.0, "somebody", "the tag burnish.pause was written by other hands")
