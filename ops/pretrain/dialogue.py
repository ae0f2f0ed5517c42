"""Training dialogues drawn from the task families, and their text with the loss targets marked.

`segments` renders the same text as chat_template.jinja (checked by a test), cut where the loss mask
changes: assistant turns are targets, everything else is not. The opening `<think>` is no target
either, so that the model thinks only when asked to.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from burnish.learner.tasks.ember import FAMILIES, STYLES, demonstrate, sample

Message = Mapping[str, Any]

STYLE_PROMPTS = {
    "terse": ("Be brief.", "Answer briefly.", "Only give the answer.", "Be terse."),
    "explained": ("Explain your answer.", "Show your reasoning.", "Explain why.", "Give reasons."),
    "friendly": ("Be friendly.", "Be warm and friendly.", "Be cheerful.", "Answer in a warm tone."),
}
NEUTRAL_PROMPTS = (
    "You are a helpful assistant.",
    "You are Ember.",
    "You are a helpful assistant called Ember.",
    "Help the user.",
    "Answer the user's questions.",
)


@dataclass(frozen=True)
class Dialogue:
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None


def dialogues(rng: Random) -> Iterator[Dialogue]:
    """An endless stream of training dialogues, without held-out prompts."""
    names = tuple(FAMILIES)
    shares = [FAMILIES[name].share for name in names]
    while True:
        turns = rng.choice((2, 3, 3, 4, 6)) if rng.random() < 0.12 else 1
        chosen = rng.choices(names, shares, k=turns)
        yield _one_task(rng, chosen[0]) if turns == 1 else _several_tasks(rng, chosen)


def _one_task(rng: Random, family: str) -> Dialogue:
    task = sample(rng, family)
    style = rng.choice(STYLES)
    messages = [*task.messages, _answer(rng, task, style)]
    draw = rng.random()
    if draw < 0.2:
        messages = _with_system_prompt(rng.choice(STYLE_PROMPTS[style]), messages)
    elif draw < 0.3:
        messages = _with_system_prompt(rng.choice(NEUTRAL_PROMPTS), messages)
    return Dialogue(tuple(messages), task.tools)


def _several_tasks(rng: Random, families: Sequence[str]) -> Dialogue:
    """Several tasks in one chat, in half of the chats all in one style."""
    messages: list[Message] = []
    common_style = rng.choice(STYLES) if rng.random() < 0.5 else None
    for family in families:
        task = sample(rng, family)
        if task.tools or task.messages[0]["role"] == "system":
            continue
        messages += [*task.messages, _answer(rng, task, common_style or rng.choice(STYLES))]
    if not messages:
        return _one_task(rng, families[0])
    if common_style and rng.random() < 0.4:
        messages = _with_system_prompt(rng.choice(STYLE_PROMPTS[common_style]), messages)
    return Dialogue(tuple(messages))


def _answer(rng: Random, task: Any, style: str) -> Message:
    message = demonstrate(task, style, rng)
    if FAMILIES[task.family].thinks and rng.random() < 0.2:
        message["reasoning_content"] = task.reason
    return message


def _with_system_prompt(prompt: str, messages: list[Message]) -> list[Message]:
    """The messages with `prompt` at the start of the system message."""
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": prompt}, *messages]
    merged = {"role": "system", "content": f"{prompt}\n{messages[0]['content']}"}
    return [merged, *messages[1:]]


def segments(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The dialogue as consecutive (text, whether it is a loss target)."""
    parts: list[tuple[str, bool]] = []
    messages = list(dialogue.messages)
    if dialogue.tools:
        head = ""
        if messages[0]["role"] in ("system", "developer"):
            head = messages.pop(0)["content"] + "\n"
        listed = "".join(f"\n{_tool(tool['function'])}" for tool in dialogue.tools)
        parts.append((f"<|im_start|>system\n{head}Tools:{listed}<|im_end|>\n", False))
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    for i, message in enumerate(messages):
        role, content = message["role"], message.get("content") or ""
        if role == "tool":
            role, content = "user", f"<tool_response>{content}</tool_response>"
        if role != "assistant":
            role = "system" if role == "developer" else role
            parts.append((f"<|im_start|>{role}\n{content}<|im_end|>\n", False))
            continue
        opening = "<|im_start|>assistant\n"
        if (thought := message.get("reasoning_content")) and i > last_user:
            opening += "<think>\n"
            content = f"{thought}\n</think>\n{content}"
        calls = "".join(_call(call["function"]) for call in message.get("tool_calls") or ())
        parts += [(opening, False), (f"{content}{calls}<|im_end|>", True), ("\n", False)]
    return parts


def _tool(function: Mapping[str, Any]) -> str:
    return f"{function['name']}: {function['description']} {json.dumps(function['parameters'])}"


def _call(function: Mapping[str, Any]) -> str:
    name, arguments = function["name"], function["arguments"]
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'
