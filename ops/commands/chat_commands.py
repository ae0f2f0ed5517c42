"""The slash commands of `burnish chat`: judging, what became of it, and finding one's way.

Each returns what is to be printed. Left out: the conversation itself (chat.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from burnish.ops.commands.client import ServiceError
from burnish.ops.commands.conversation import Conversation, Vote

HELP = """\
/up            a good answer            /down [why]    a bad one
/fix TEXT      what it should have said /comment TEXT  anything else about it
/undo          take the last one back   /why           what became of your votes
/history       this conversation        /new           start a new one
/quit          leave (or Ctrl-D)"""
COMMANDS = (
    "/up",
    "/down",
    "/fix",
    "/comment",
    "/undo",
    "/why",
    "/history",
    "/new",
    "/quit",
    "/help",
)
NEAR = 0.6


def command(conversation: Conversation, line: str) -> str:
    """Carry out a slash command; returns what to print. Raises ServiceError."""
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    match name:
        case "/up" | "/down":
            conversation.judge("thumbs", name[1:], argument or None)
            return f"thumbs {name[1:]} noted"
        case "/fix" if argument:
            conversation.judge("correction", argument)
            return "correction noted"
        case "/comment" if argument:
            conversation.judge("comment", argument)
            return "comment noted"
        case "/fix" | "/comment":
            return f"{name} needs a text: {name} TEXT"
        case "/undo":
            vote = conversation.take_back()
            return f"{told(vote)} taken back" if vote else "there is nothing to take back"
        case "/why":
            return why(conversation)
        case "/history":
            return history(conversation)
        case "/new":
            conversation.restart()
            return "a new conversation"
        case "/help":
            return HELP
        case _:
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=NEAR)
            return f"there is no {name}" + (f"; did you mean {near[0]}?" if near else f"\n{HELP}")


def history(conversation: Conversation) -> str:
    lines = []
    for number, turn in enumerate(conversation.turns, start=1):
        lines.append(f"{number}. > {turn.question}")
        if turn.answer:
            lines.append(f"   {_short(turn.answer)}  ({turn.version or 'unknown'})")
        lines += [f"   {told(vote)}" for vote in turn.votes]
    return "\n".join(lines) or "nothing was said yet"


def why(conversation: Conversation) -> str:
    """The fate of every judgement of this conversation, and what the learner did last."""
    votes = [vote for turn in conversation.turns for vote in turn.votes]
    if not votes:
        return "you have not judged yet: /up or /down judges the last answer"
    lines = []
    for vote in votes:
        try:
            lines.append(f"{told(vote)}: {fate(conversation.fate(vote))}")
        except ServiceError as error:
            lines.append(f"{told(vote)}: {error}")
    if tick := last_update(conversation.learner()):
        lines.append(f"the learner's last update: {tick}")
    return "\n".join(lines)


def fate(answer: Mapping[str, Any]) -> str:
    """What GET /v1/feedback/{id} says of a judgement, in words: its steps, then why it ends or what it waits for."""
    told = answer["fate"]
    said = ", ".join(_step(step, told["policy"]) for step in told["steps"])
    if told["skipped"]:
        return f"{said}; it counts nothing: {told['skipped']}"
    return f"{said}; it waits for: {told['waits']}" if told["waits"] else said


def _step(step: Mapping[str, Any], policy: str | None) -> str:
    """One step of a fate (serving/api/fates.py)."""
    version = f"{policy}@{step.get('version')}"
    match step["step"]:
        case "weighed":
            less = f" since {step['why']}" if step.get("why") else ""
            return f"weighed {step['weight']:.2f}{less}"
        case "used":
            return f"used in update {step['update']}"
        case "gate":
            return f"{'passed' if step['passed'] else 'refused'} at the gate as {version}"
        case "canary":
            return f"{'on trial' if step['running'] else 'tried'} with a share of people"
        case "served":
            return f"served in {version}"
        case other:  # saved, joined
            return other


def last_update(learner: Mapping[str, Any]) -> str | None:
    """What the newest update tick did, or why it did nothing."""
    if learner.get("problem"):
        return learner["problem"]
    for tick in learner["ticks"]:
        if tick["kind"] == "update":
            return tick["did"] + (f": {tick['why_not']}" if tick.get("why_not") else "")
    return learner.get("why")


def told(vote: Vote) -> str:
    return f"{vote.name} {_short(str(vote.value))}"


def _short(text: str, width: int = 60) -> str:
    first = " ".join(text.split())
    return first if len(first) <= width else first[: width - 3] + "..."
