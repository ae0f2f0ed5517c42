"""What clients send to `POST /v1/messages`, checked field by field, and the chat it asks for.

As for chat, every field is supported, a hint without effect, or refused by name. Left out: images,
documents, and tools that run on Anthropic's servers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from burnish.feedback.ranges import (
    BestOf,
    Count,
    Few,
    Label,
    Many,
    Name,
    Paragraph,
    Positive,
    Text,
    Word,
)
from burnish.serving.api.chat_requests import (
    CacheControl,
    ChatRequest,
    Edge,
    ValidationRefusal,
    check_text_only,
    made_of,
    without_refused,
)
from burnish.serving.api.errors import unsupported
from pydantic import Discriminator, Field, Tag, field_validator, model_validator

NAMES: Mapping[str, str] = {
    "max_completion_tokens": "max_tokens",
    "reasoning_effort": "thinking",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "thinking_token_budget": "thinking.budget_tokens",
    "user": "metadata.user_id",
}
"""Fields of a chat request as they are called here."""

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "container": ((None,), "No code is run here."),
    "mcp_servers": ((None, []), "No MCP servers are called from here."),
}


class TextBlock(Edge):
    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None
    citations: Many[Any] | None = None


class ThinkingBlock(Edge):
    type: Literal["thinking"]
    thinking: Text
    signature: Text | None = None


class RedactedThinkingBlock(Edge):
    """Of another model: it cannot be read here."""

    type: Literal["redacted_thinking"]
    data: Text


class ToolUseBlock(Edge):
    type: Literal["tool_use"]
    id: Label
    name: Label
    input: dict[str, Any] = {}
    cache_control: CacheControl | None = None
    caller: Any = None


class ToolResultBlock(Edge):
    type: Literal["tool_result"]
    tool_use_id: Label
    content: Text | Many[TextBlock] = ""
    is_error: bool = False
    cache_control: CacheControl | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_only(cls, content: Any) -> Any:
        check_text_only(content, ("text",), "unsupported_block")
        return "" if content is None else content


_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")
Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")],
    Discriminator(
        lambda block: block.get("type") if isinstance(block, dict) else getattr(block, "type", ""),
        custom_error_type="unsupported_item",
        custom_error_message=f"this model reads blocks of type {', '.join(_BLOCKS)}",
    ),
]


class InputMessage(Edge):
    role: Literal["user", "assistant"]
    content: Text | Many[Block]

    def chat(self) -> list[dict[str, Any]]:
        """As chat messages: the results of tools are messages of their own."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        texts = [block.text for block in self.content if isinstance(block, TextBlock)]
        results: list[dict[str, Any]] = [
            {"role": "tool", "tool_call_id": block.tool_use_id, "content": _result(block)}
            for block in self.content
            if isinstance(block, ToolResultBlock)
        ]
        said: dict[str, Any] = {"role": self.role, "content": "".join(texts)}
        thought = [block.thinking for block in self.content if isinstance(block, ThinkingBlock)]
        calls = [_call(block) for block in self.content if isinstance(block, ToolUseBlock)]
        if thought:
            said["reasoning_content"] = "".join(thought)
        if calls:
            said |= {"tool_calls": calls, "content": said["content"] or None}
        return [*results, *([said] if texts or calls or not results else [])]


def _result(block: ToolResultBlock) -> str:
    said = block.content
    text = said if isinstance(said, str) else "".join(part.text for part in said)
    return f"Error: {text}" if block.is_error else text


def _call(block: ToolUseBlock) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
    return {"id": block.id, "type": "function", "function": function}


class MessageTool(Edge):
    type: Literal["custom"] = "custom"
    name: Word = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: Paragraph | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None  # arguments always come in pieces

    def chat(self) -> dict[str, Any]:
        function = {"name": self.name, "parameters": self.input_schema}
        for field in ("description", "strict"):
            if getattr(self, field) is not None:
                function[field] = getattr(self, field)
        return {"type": "function", "function": function}


class ToolChoice(Edge):
    type: Literal["auto", "any", "tool", "none"]
    name: Word | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _name_of_a_tool(self) -> ToolChoice:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("name belongs to type 'tool', and to no other")
        return self


class ThinkingOptions(Edge):
    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Count | None = None
    display: Literal["summarized"] | None = None

    @model_validator(mode="after")
    def _budget_where_enabled(self) -> ThinkingOptions:
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise ValueError("budget_tokens belongs to type 'enabled', and to no other")
        return self


class OutputFormat(Edge):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Edge):
    effort: Literal["low", "medium", "high", "max", "xhigh"] | None = None
    format: OutputFormat | None = None


class ContextEdit(Edge):
    """Earlier thinking is not read again anyway; other edits would change what is read."""

    type: Literal["clear_thinking_20251015"]
    keep: Any = None


class ContextManagement(Edge):
    edits: Few[ContextEdit] = []


class Metadata(Edge):
    user_id: Label | None = None


class MessagesRequest(Edge):
    model: Label
    messages: Many[InputMessage] = Field(min_length=1)
    max_tokens: Positive
    system: Text | Many[TextBlock] | None = None
    session_id: Name | None = None  # ours: a session of memory that the answer may draw on
    best_of: BestOf | None = None  # ours: candidates, of which one is chosen
    stream: bool = False
    stop_sequences: Few[Label] = []
    temperature: float = Field(default=1.0, ge=0, le=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: Count = 0
    tools: Few[MessageTool] = []
    tool_choice: ToolChoice | None = None
    thinking: ThinkingOptions | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    context_management: ContextManagement | None = None
    service_tier: Word | None = None
    inference_geo: Word | None = None
    cache_control: CacheControl | None = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_we_do(cls, data: Any) -> Any:
        return without_refused(data, _REFUSED)

    @field_validator("tools", mode="before")
    @classmethod
    def _own_tools_only(cls, tools: Any) -> Any:
        for place, tool in enumerate(tools if isinstance(tools, list) else ()):
            kind = tool.get("type", "custom") if isinstance(tool, dict) else "custom"
            if kind not in ("custom", None):
                why = f"A tool of type '{kind}' was sent; only your own are called."
                raise ValidationRefusal(unsupported(f"tools[{place}]", why))
        return tools

    @field_validator("stop_sequences")
    @classmethod
    def _few_stops(cls, stops: list[str]) -> list[str]:
        if len(stops) > 16 or not all(stops):
            raise ValueError("at most 16 stop sequences, none of them empty")
        return stops

    @model_validator(mode="after")
    def _consistent(self) -> MessagesRequest:
        if self.tool_choice is not None and not self.tools and self.tool_choice.type != "none":
            raise ValueError("tool_choice is only allowed with tools")
        return self

    def chat(self) -> ChatRequest:
        """The chat request that this is. Raises ApiError."""
        messages = [said for message in self.messages for said in message.chat()]
        if self.system:
            said = self.system
            text = said if isinstance(said, str) else "\n".join(block.text for block in said)
            messages.insert(0, {"role": "system", "content": text})
        last = messages[-1]  # of the assistant: the answer's beginning, given
        continues = (
            last["role"] == "assistant" and bool(last["content"]) and "tool_calls" not in last
        )
        config = self.output_config or OutputConfig()
        form = config.format and {"name": "answer", "schema": config.format.schema_}
        choice, parallel = self._choice()
        return made_of(
            ChatRequest,
            NAMES,
            model=self.model,
            messages=messages,
            max_completion_tokens=self.max_tokens,
            stop=self.stop_sequences or None,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            tools=[tool.chat() for tool in self.tools] or None,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            response_format=form and {"type": "json_schema", "json_schema": form},
            reasoning_effort=self._effort(config),
            thinking_token_budget=self.thinking and self.thinking.budget_tokens,
            user=self.metadata and self.metadata.user_id,
            session_id=self.session_id,
            best_of=self.best_of,
            continue_final_message=continues,
            add_generation_prompt=not continues,
        )

    def _effort(self, config: OutputConfig) -> str | None:
        if self.thinking is None or self.thinking.type == "disabled":
            return None
        return "xhigh" if config.effort == "max" else config.effort or "medium"

    def _choice(self) -> tuple[Any, bool | None]:
        if self.tool_choice is None or not self.tools:
            return None, None
        kind, name = self.tool_choice.type, self.tool_choice.name
        named = {"type": "function", "function": {"name": name}}
        choice = {"any": "required", "tool": named}.get(kind, kind)
        return choice, False if self.tool_choice.disable_parallel_tool_use else None


class CountRequest(MessagesRequest):
    max_tokens: Positive = 1
