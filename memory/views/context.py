"""What `context` returns: the messages within the budget, and what was left out and why."""

from collections.abc import Sequence
from typing import TypedDict

from burnish.memory.sessions.snapshot import SessionSnapshot
from burnish.memory.views.messages import ViewMessage
from burnish.memory.views.view import View


class LeftOut(TypedDict):
    """What of the session the view does not show; all 0 and "" where it shows everything."""

    steps: int  # in no form; a summary may tell of them
    shortened: int  # units not shown whole
    summarised: int  # of `steps`, those that a summary tells of
    rules: int  # that found no room
    why: str


class ContextView(TypedDict):
    """`tokens` never exceeds the budget asked for. `plan` is the compaction in force; `policy` decided
    on this view or made that plan, and `fell_back` says why it was not the one asked for."""

    messages: list[ViewMessage]
    tokens: int
    version: int
    plan: str | None
    policy: str | None
    fell_back: str | None
    left_out: LeftOut


WHOLE = LeftOut(steps=0, shortened=0, summarised=0, rules=0, why="")


def left_out(view: View, snapshot: SessionSnapshot, rules: int, decided_by: str | None) -> LeftOut:
    """`rules` found no room; `decided_by` names the policy where it was not the default view's."""
    seen = view.seqs | view.quoted
    steps = max(snapshot.steps - len(snapshot.hidden) - len(seen), 0)
    sources = {seq for node in view.nodes for seq in node.sources}
    if not steps and not view.shortened:
        return WHOLE
    return LeftOut(
        steps=steps,
        shortened=view.shortened,
        summarised=len(sources - seen),
        rules=rules,
        why=f"{snapshot.steps} steps exceed the budget of {view.budget} tokens: "
        + _kept(view, snapshot, decided_by),
    )


def _kept(view: View, snapshot: SessionSnapshot, decided_by: str | None) -> str:
    kept: Sequence[str] = ("pinned steps", "rules", "the newest exchange")
    if decided_by is not None:
        kept = (*kept, f"what {decided_by} chose")
    else:
        plan = [f"what compaction {snapshot.plan.id} kept"] if snapshot.plan else []
        kept = (*kept, *plan, "what matches the query best", "the newest of the rest")
    return "shown are " + ", ".join(kept[:-1]) + " and " + kept[-1]
