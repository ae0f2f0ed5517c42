"""A compaction plan: what one compaction decided, as it is stored beside the log.

The header is small and read with every view: which units are shown and in which form, and which
summary nodes. The decisions on all units, with score and reason, are read only to tell what left
and why; they are kept compressed.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    """What a compaction does with a unit."""

    KEEP = "keep"
    SHORTEN = "shorten"  # its first and last lines, see memory/views/shorten.py
    CLEAR = "clear"  # the call stays, its results become a placeholder
    SUMMARISE = "summarise"  # a summary node stands for it and its neighbours
    DROP = "drop"  # out of the view; search, recall and expand still reach it


SHOWN_ACTIONS = (Action.KEEP, Action.SHORTEN, Action.CLEAR)


@dataclass(frozen=True)
class UnitDecision:
    """The decision on one unit; `seq` is its first step, `tokens` its size when shown whole."""

    seq: int
    tokens: int
    action: Action
    score: float
    why: str

    def public(self) -> dict[str, Any]:
        return {
            "cursor": str(self.seq),
            "tokens": self.tokens,
            "verdict": self.action.value,
            "score": self.score,
            "why": self.why,
        }


@dataclass(frozen=True)
class ShownUnit:
    """A unit that the plan shows, by its first step, and in which form."""

    seq: int
    action: Action
    score: float


@dataclass(frozen=True)
class CompactionPlan:
    """Steps up to `upto` are shown as the plan says; those after it are the tail."""

    id: str
    parent: str  # the plan in force when this was made, or ""
    policy: str
    fell_back: str  # why another policy than the one asked for decided, or ""
    trigger: str  # "asked" or "background"
    budget: int
    upto: int
    log_tokens: int  # the whole log's when it was read
    before: int  # of the view without a budget: what was shown until then and the tail
    after: int
    floor: int
    created_at: float
    seconds: float
    counts: dict[str, int]
    shown: tuple[ShownUnit, ...]
    nodes: tuple[str, ...]

    def to_json(self) -> str:
        shown = [[s.seq, s.action.value, s.score] for s in self.shown]
        return json.dumps({**asdict(self), "shown": shown}, separators=(",", ":"))

    @classmethod
    def from_json(cls, plan: str, text: str) -> "CompactionPlan":
        header = json.loads(text)
        shown = tuple(ShownUnit(seq, Action(v), score) for seq, v, score in header["shown"])
        return cls(**{**header, "id": plan, "shown": shown, "nodes": tuple(header["nodes"])})

    def public(self) -> dict[str, Any]:
        return {
            "plan": self.id,
            "policy": self.policy,
            "fell_back": self.fell_back or None,
            "trigger": self.trigger,
            "budget": self.budget,
            "upto": str(self.upto),
            "tokens_log": self.log_tokens,
            "tokens_before": self.before,
            "tokens_after": self.after,
            "tokens_floor": self.floor,
            "counts": self.counts,
            "nodes": list(self.nodes),
            "created_at": self.created_at,
            "seconds": self.seconds,
        }


def pack_decisions(decisions: Sequence[UnitDecision], trace: str = "") -> str:
    """Compressed and in base64; `trace` follows on lines of its own (policies/learned.py)."""
    whys = {why: i for i, why in enumerate(dict.fromkeys(r.why for r in decisions))}
    rows = [[r.seq, r.tokens, r.action.value, r.score, whys[r.why]] for r in decisions]
    text = json.dumps([list(whys), rows], separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode())).decode()
    return f"{packed}\n{trace}" if trace else packed


def unpack_decisions(packed: str) -> list[UnitDecision]:
    whys, rows = json.loads(zlib.decompress(base64.b64decode(packed.partition("\n")[0])))
    return [UnitDecision(seq, n, Action(v), score, whys[why]) for seq, n, v, score, why in rows]


def trace_of(packed: str) -> str:
    """The sampling trace packed with the decisions, or ""."""
    return packed.partition("\n")[2]
