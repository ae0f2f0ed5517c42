"""Chats as token ids: a task's prompt through the model's chat template, an answer that people wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from burnish.kernels.model import LoadedModel
from burnish.learner.tasks import PackError, Task, TaskSource
from jinja2 import TemplateError

PATIENCE = 50  # tasks in a row that cannot be asked, after which a family is given up


class Chat(Protocol):
    """What a prompt is made of: a task, or an exercise of ember's."""

    @property
    def family(self) -> str: ...

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def tools(self) -> Sequence[Mapping[str, Any]] | None: ...


class HasTokenizer(Protocol):
    """A model that is loaded, or its folder."""

    @property
    def tokenizer(self) -> Any: ...


def task_prompt(model: HasTokenizer, task: Chat) -> tuple[int, ...]:
    """The token ids that serving would make of a task's chat.

    A model without a chat template is asked in plain text, a line a message. Raises PackError where
    the template refuses the chat, because of a role that it does not know, say.
    """
    if not getattr(model.tokenizer, "chat_template", None):
        return tuple(model.tokenizer.encode(_plain_text(task.messages)))
    try:
        ids = model.tokenizer.apply_chat_template(
            [for_template(message) for message in task.messages],
            tools=list(task.tools) if task.tools else None,
            add_generation_prompt=True,
            enable_thinking=False,
            return_dict=False,
        )
    except TemplateError as error:
        raise PackError(
            f"the model's chat template refuses {task.family}: {' '.join(str(error).split())}"
        ) from error
    return tuple(ids)


def answer_tokens(model: HasTokenizer, text: str, end: int | None = None) -> list[int]:
    """The tokens of an answer that was written and not sampled, and the one that ends a turn: `end`, or
    the tokenizer's own."""
    tokens = model.tokenizer.encode(text, add_special_tokens=False)
    end = model.tokenizer.eos_token_id if end is None else end
    return tokens if end is None else [*tokens, end]


def answer_room(model: LoadedModel, longest: int) -> int:
    """The longest answer that is asked for: `longest`, or half of the context window."""
    return max(1, min(longest, model.max_model_len // 2))


def fits(model: LoadedModel, task: Chat, max_tokens: int) -> bool:
    """Whether a task's prompt leaves `max_tokens` of the context window for the answer."""
    return len(task_prompt(model, task)) + max_tokens <= model.max_model_len


def fitting(
    model: LoadedModel, source: TaskSource, tasks: Iterable[Task], max_tokens: int
) -> Iterator[Task]:
    """Those tasks that this model can be asked; what its template refuses becomes a note of `source`."""
    misses = 0
    for task in tasks:
        try:
            fit = fits(model, task, max_tokens)
        except PackError as error:
            source.note(str(error))
            fit = False
        misses = 0 if fit else misses + 1
        if fit:
            yield task
        elif misses == PATIENCE:
            return


def _plain_text(messages: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{m['role'].capitalize()}: {m.get('content') or ''}\n" for m in messages]
    return "".join([*lines, "Assistant:"])


def for_template(message: Mapping[str, Any]) -> dict[str, Any]:
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
