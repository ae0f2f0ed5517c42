"""Items, of which the Responses API makes conversations, and chat messages, of which templates do.

Left out: images, files, and the items of tools that run elsewhere (search, computer, MCP).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from burnish.feedback.ranges import Label, Many, Text, Word
from burnish.serving.api.chat_requests import Edge, check_text_only
from burnish.serving.api.errors import ApiError
from pydantic import Discriminator, Tag, field_validator

TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
_TEXTS = ("input_text", "output_text", "text", "refusal")
Status = Literal["in_progress", "completed", "incomplete"]


class Content(Edge):
    """A text of a message, as it is sent or as it was answered."""

    type: Literal["input_text", "output_text", "text", "refusal"]
    text: Text = ""
    refusal: Text | None = None
    annotations: Many[Any] | None = None
    logprobs: Many[Any] | None = None


class MessageItem(Edge):
    type: Literal["message"] = "message"
    id: Label | None = None
    status: Status | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Many[Content]
    name: Label | None = None
    phase: Word | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_only(cls, content: Any) -> Any:
        check_text_only(content, _TEXTS, "unsupported_item")
        return content

    def plain(self) -> dict[str, Any]:
        """As it is kept: its content as parts."""
        said = self.model_dump(exclude_none=True)
        if isinstance(self.content, str):
            said["content"] = [content_of(self.role, self.content)]
        return said


class FunctionCallItem(Edge):
    type: Literal["function_call"]
    id: Label | None = None
    status: Status | None = None
    call_id: Label
    name: Label
    arguments: Text


class FunctionCallOutputItem(Edge):
    type: Literal["function_call_output"]
    id: Label | None = None
    status: Status | None = None
    call_id: Label
    output: Text | Many[Content]

    @field_validator("output", mode="before")
    @classmethod
    def _text_only(cls, output: Any) -> Any:
        check_text_only(output, _TEXTS, "unsupported_item")
        return output


class Thought(Edge):
    type: Literal["reasoning_text", "summary_text"]
    text: Text


class ReasoningItem(Edge):
    type: Literal["reasoning"]
    id: Label | None = None
    status: Status | None = None
    summary: Many[Thought] = []
    content: Many[Thought] | None = None
    encrypted_content: Text | None = None


class ItemReference(Edge):
    """An item of an earlier response, by its id."""

    type: Literal["item_reference"] | None = None
    id: Label


def _kind(item: Any) -> str | None:
    if not isinstance(item, dict):
        return getattr(item, "type", None) or "message"
    return item.get("type") or ("message" if "role" in item else "item_reference")


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(
        _kind,
        custom_error_type="unsupported_item",
        custom_error_message=f"items are of type {', '.join(TYPES)}",
    ),
]


def text_of(content: str | Sequence[Content]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text or part.refusal or "" for part in content)


def messages_of(items: Iterable[Item]) -> list[dict[str, Any]]:
    """The conversation in chat messages. What an answer thought, said and called is one message."""
    messages: list[dict[str, Any]] = []
    thought = ""
    answering = False  # whether the last message is an answer that may still call
    for place, item in enumerate(items):
        match item:
            case ReasoningItem():
                thought = "".join(part.text for part in item.content or item.summary)
                answering = False
                continue
            case MessageItem():
                said: dict[str, Any] = {"role": item.role, "content": text_of(item.content)}
                if item.name:
                    said["name"] = item.name
                answering = item.role == "assistant"
            case FunctionCallItem():
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                if answering:
                    messages[-1].setdefault("tool_calls", []).append(call)
                    continue
                said = {"role": "assistant", "content": None, "tool_calls": [call]}
                answering = True
            case FunctionCallOutputItem():
                output = text_of(item.output)
                said = {"role": "tool", "content": output, "tool_call_id": item.call_id}
                answering = False
            case _:
                message = "A reference to a stored item is not followed here: send the item itself."
                raise ApiError(400, message, code="unsupported_item", param=f"input[{place}]")
        if thought and answering:
            said["reasoning_content"] = thought
        thought = ""
        messages.append(said)
    return messages


def content_of(role: str, text: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def items_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A message as the items of a next input."""
    role, content = message["role"], message["content"]
    if role == "tool":
        call = message["tool_call_id"]
        return [{"type": "function_call_output", "call_id": call, "output": content}]
    items: list[dict[str, Any]] = []
    if content:
        items.append({"type": "message", "role": role, "content": [content_of(role, content)]})
    for call in message.get("tool_calls") or ():
        asked = {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        items.append({"type": "function_call", "call_id": call["id"], **asked})
    return items
