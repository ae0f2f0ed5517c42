"""Prompts of verifiable tasks: a task's chat through the model's chat template, as token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import Task


def task_prompt(model: LoadedModel, task: Task) -> tuple[int, ...]:
    """The token ids that serving would make of a task's chat."""
    ids = model.tokenizer.apply_chat_template(
        [_for_template(message) for message in task.messages],
        tools=list(task.tools) if task.tools else None,
        add_generation_prompt=True,
        enable_thinking=False,
        return_dict=False,
    )
    return tuple(ids)


def fits(model: LoadedModel, task: Task, max_tokens: int) -> bool:
    """Whether a task's prompt leaves `max_tokens` of the context window for the answer."""
    return len(task_prompt(model, task)) + max_tokens <= model.max_model_len


def _for_template(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as chat templates expect it: with a content, and a call's arguments as an object."""
    plain = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        plain["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": _object(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
    return plain


def _object(arguments: Any) -> Any:
    return json.loads(arguments) if isinstance(arguments, str) else arguments
