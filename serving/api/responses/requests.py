"""What clients send to `POST /v1/responses`, checked field by field, and the chat it asks for.

As for chat, every field is supported, a hint without effect, or refused by name. Left out: input
items (items.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from burnish.feedback.ranges import (
    BestOf,
    Few,
    Label,
    Line,
    Many,
    Name,
    Paragraph,
    Positive,
    Text,
    Word,
)
from burnish.serving.api.chat_requests import (
    ChatRequest,
    Edge,
    Hints,
    ValidationRefusal,
    made_of,
    without_refused,
)
from burnish.serving.api.errors import unsupported
from burnish.serving.api.responses.items import Item, MessageItem
from pydantic import Field, field_validator, model_validator

NAMES: Mapping[str, str] = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}
"""Fields of a chat request as they are called here."""

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "background": ((None, False), "Answers are given while the client waits; stream them."),
    "context_management": ((None, []), "Use truncation: 'auto', or POST /v1/responses/compact."),
    "conversation": ((None,), "Use previous_response_id, or session_id for a session of memory."),
    "modalities": ((None, ["text"]), "Only ['text']."),
    "moderation": ((None,), "There is no moderation service here."),
    "prompt": ((None,), "No prompts are stored here: send instructions."),
}


class ResponseTool(Edge):
    type: Literal["function"]
    name: Word = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: Paragraph | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(Edge):
    type: Literal["function"]
    name: Word


class AllowedTools(Edge):
    """Some of the tools, between calls that all send the same list (for the cache's sake)."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Few[NamedFunction] = Field(min_length=1)


class TextFormat(Edge):
    type: Literal["text", "json_object", "json_schema"]
    name: Word | None = Field(default=None, pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Paragraph | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _schema_where_there_is_one(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema belongs to type 'json_schema', and to no other")
        return self


class TextOptions(Edge):
    format: TextFormat = TextFormat(type="text")
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Edge):
    """What was thought is always told whole, whatever `summary` asks for."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Word | None = None
    generate_summary: Word | None = None


class StreamOptions(Edge):
    include_obfuscation: Literal[False] | None = None


class ResponseRequest(Hints):
    model: Label
    input: Text | Many[Item]
    instructions: Text | None = None
    previous_response_id: Label | None = None
    session_id: Name | None = None  # ours: a session of memory that the answer may draw on
    store: bool = True
    stream: bool = False
    stream_options: StreamOptions | None = None
    include: Few[Word] = []
    tools: Few[ResponseTool] = []
    tool_choice: Literal["auto", "none", "required"] | NamedFunction | AllowedTools = "auto"
    parallel_tool_calls: bool = True
    max_tool_calls: Positive | None = None  # of tools that run here; there are none
    text: TextOptions = TextOptions()
    reasoning: ReasoningOptions = ReasoningOptions()
    max_output_tokens: Positive | None = None
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    top_logprobs: int = Field(default=0, ge=0, le=20)
    truncation: Literal["auto", "disabled"] = "disabled"
    best_of: BestOf | None = None  # ours: candidates, of which one is chosen
    user: Label | None = None
    metadata: dict[Word, Line] = Field(default={}, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _only_what_we_do(cls, data: Any) -> Any:
        return without_refused(data, _REFUSED)

    @field_validator("tools", mode="before")
    @classmethod
    def _functions_only(cls, tools: Any) -> Any:
        for place, tool in enumerate(tools if isinstance(tools, list) else ()):
            kind = tool.get("type") if isinstance(tool, dict) else type(tool).__name__
            if kind != "function":
                why = f"A tool of type '{kind}' was sent; only functions are called."
                raise ValidationRefusal(unsupported(f"tools[{place}]", why))
        return tools

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _a_choice(cls, choice: Any) -> Any:
        if isinstance(choice, str) and choice not in ("auto", "none", "required"):
            raise ValueError("'auto', 'none', 'required', or the function to call")
        return choice

    @model_validator(mode="after")
    def _tools_that_there_are(self) -> ResponseRequest:
        known = {tool.name for tool in self.tools}
        choice = self.tool_choice
        if choice not in ("auto", "none") and not self.tools:
            raise ValueError("tool_choice is only allowed with tools")
        if isinstance(choice, AllowedTools):
            unknown = next((tool.name for tool in choice.tools if tool.name not in known), None)
            if unknown is not None:
                raise ValueError(f"tool_choice allows '{unknown}', which is none of the tools")
        return self

    @property
    def new_items(self) -> list[dict[str, Any]]:
        """The input as items, as they are kept."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input).plain()]
        return [
            item.plain() if isinstance(item, MessageItem) else item.model_dump(exclude_none=True)
            for item in self.input
        ]

    @property
    def wants_logprobs(self) -> bool:
        return "message.output_text.logprobs" in self.include or self.top_logprobs > 0

    def chat(self, conversation: Sequence[dict[str, Any]], session: str | None) -> ChatRequest:
        """The chat request that this is, on a conversation in chat messages. Raises ApiError."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        tools, choice = self._tools()
        form = self.text.format
        schema = None
        if form.type == "json_schema":
            schema = {"name": form.name or "answer", "schema": form.schema_, "strict": form.strict}
        return made_of(
            ChatRequest,
            NAMES,
            model=self.model,
            messages=[*system, *conversation],
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logprobs=self.wants_logprobs,
            top_logprobs=self.top_logprobs,
            tools=tools or None,
            tool_choice=choice if tools else None,
            parallel_tool_calls=self.parallel_tool_calls if tools else None,
            response_format=None
            if form.type == "text"
            else {"type": form.type, "json_schema": schema},
            reasoning_effort=self.reasoning.effort,
            user=self.user,
            safety_identifier=self.safety_identifier,
            metadata=self.metadata,
            session_id=session,
            best_of=self.best_of,
        )

    def _tools(self) -> tuple[list[dict[str, Any]], Any]:
        choice: Any = self.tool_choice
        allowed = self.tools
        if isinstance(choice, AllowedTools):
            names = {tool.name for tool in choice.tools}
            allowed = [tool for tool in self.tools if tool.name in names]
            choice = choice.mode
        elif isinstance(choice, NamedFunction):
            choice = {"type": "function", "function": {"name": choice.name}}
        functions = [tool.model_dump(exclude_none=True, exclude={"type"}) for tool in allowed]
        return [{"type": "function", "function": each} for each in functions], choice
