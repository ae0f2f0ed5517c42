"""How a policy's champion moved: a tag of the registered model for each move, the newest 500 kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict

from burnish.serving.registry.model_store import ModelStore
from burnish.serving.registry.versions import Move

OUTSIDE = "outside"  # who moved an alias without us; MLflow does not say

_MOVE = "burnish.move."
_MOVES_KEPT = 500


def record(store: ModelStore, policy: str, move: Move, key: str | None = None) -> None:
    key = key or f"{_MOVE}{int(move.at * 1000)}-{secrets.token_hex(2)}"
    store.set_tag(policy, key, json.dumps(asdict(move)))
    for old, _ in _keyed(store.model(policy).tags)[:-_MOVES_KEPT]:
        store.drop_tag(policy, old)


def history(tags: Mapping[str, str]) -> list[Move]:
    """Those that a registered model's tags tell of, oldest first."""
    return [move for _, move in _keyed(tags)]


def moved_outside(store: ModelStore, policy: str, champion: int) -> tuple[str, Move] | None:
    """The move that made `champion` what it is, if nobody recorded one, and the key to record it by.

    The key follows from the move, so several observers write it only once.
    """
    known = _keyed(store.model(policy).tags)
    if not known or champion == known[-1][1].after:
        return None
    key, last = known[-1]
    name = hashlib.sha256(f"{key} {champion}".encode()).hexdigest()[:12]
    move = Move(time.time(), OUTSIDE, "moved outside", last.after, champion)
    return f"{_MOVE}outside-{name}", move


def _keyed(tags: Mapping[str, str]) -> list[tuple[str, Move]]:
    moves = []
    for key, value in tags.items():
        # One that is no move was written by somebody else; following goes on without it.
        with contextlib.suppress(ValueError, TypeError):
            if key.startswith(_MOVE):
                moves.append((key, Move(**json.loads(value))))
    return sorted(moves, key=lambda item: item[1].at)
