"""Shortening a long step: its first and last lines, and a note of what is missing.

Deterministic and without a model. Tool calls stay whole, since a cut one would be invalid. The note
says how to read what is left out (`expand`).
"""

from dataclasses import replace

from burnish.memory.sessions.steps import Step

HEAD_LINES, HEAD_CHARACTERS = 4, 320
TAIL_LINES, TAIL_CHARACTERS = 2, 160


def shorten(step: Step) -> Step:
    """The step with its content made short, or as it is where that would save nothing."""
    lines = step.content.splitlines()
    head = "\n".join(lines[:HEAD_LINES])[:HEAD_CHARACTERS]
    rest = step.content[len(head) :] if len(lines) <= HEAD_LINES else _tail(lines)
    tail = rest[-TAIL_CHARACTERS:]
    missing = len(step.content) - len(head) - len(tail)
    note = f"[{missing} characters left out; expand step {step.cursor} to read them]"
    return _if_shorter(step, f"{head}\n{note}\n{tail}")


def clear(step: Step) -> Step:
    """A tool result as a placeholder; any other step as it is."""
    if step.role != "tool":
        return step
    return _if_shorter(step, f"[result cleared; expand step {step.cursor} to read it]")


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[HEAD_LINES:][-TAIL_LINES:])


def _if_shorter(step: Step, content: str) -> Step:
    return replace(step, content=content) if len(content) < len(step.content) else step
