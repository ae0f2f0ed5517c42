"""A plan: what one compaction decided, as it is stored beside the log.

The header is small and read with every view: which units are shown and in which form, and which
summary nodes. The verdicts on all units, with score and reason, are read only by those who ask
what left and why; they are kept compressed.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    KEEP = "keep"
    SHORTEN = "shorten"  # its first and last lines, see memory/views/shorten.py
    CLEAR = "clear"  # the call stays, its results become a placeholder
    SUMMARISE = "summarise"  # stands behind a summary node, together with its neighbours
    DROP = "drop"  # out of the view; search, recall and expand still reach it


SHOWN = (Verdict.KEEP, Verdict.SHORTEN, Verdict.CLEAR)


@dataclass(frozen=True)
class Ruling:
    """One unit's fate; `seq` is its first step, `tokens` its whole size."""

    seq: int
    tokens: int
    verdict: Verdict
    score: float
    why: str

    def public(self) -> dict[str, Any]:
        return {
            "cursor": str(self.seq),
            "tokens": self.tokens,
            "verdict": self.verdict.value,
            "score": self.score,
            "why": self.why,
        }


@dataclass(frozen=True)
class Shown:
    seq: int
    verdict: Verdict
    score: float


@dataclass(frozen=True)
class Plan:
    """Steps up to `upto` are shown as it says; those after it are the tail."""

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
    shown: tuple[Shown, ...]
    nodes: tuple[str, ...]

    def to_json(self) -> str:
        shown = [[s.seq, s.verdict.value, s.score] for s in self.shown]
        return json.dumps({**asdict(self), "shown": shown}, separators=(",", ":"))

    @classmethod
    def from_json(cls, plan: str, text: str) -> "Plan":
        header = json.loads(text)
        shown = tuple(Shown(seq, Verdict(v), score) for seq, v, score in header["shown"])
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


def pack_rulings(rulings: Sequence[Ruling], trace: str = "") -> str:
    """`trace` is what a learned policy needs to learn from this plan later, on lines of its own."""
    whys = {why: i for i, why in enumerate(dict.fromkeys(r.why for r in rulings))}
    rows = [[r.seq, r.tokens, r.verdict.value, r.score, whys[r.why]] for r in rulings]
    text = json.dumps([list(whys), rows], separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode())).decode()
    return f"{packed}\n{trace}" if trace else packed


def unpack_rulings(packed: str) -> list[Ruling]:
    whys, rows = json.loads(zlib.decompress(base64.b64decode(packed.partition("\n")[0])))
    return [Ruling(seq, n, Verdict(v), score, whys[why]) for seq, n, v, score, why in rows]


def trace_of(packed: str) -> str:
    """The trace beside packed rulings, or ""."""
    return packed.partition("\n")[2]
