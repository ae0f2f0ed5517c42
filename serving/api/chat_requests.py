"""What clients send to `/v1/chat/completions` and `/v1/completions`, checked field by field.

Every field of OpenAI's API is either supported or refused by name; an unknown field is refused
too. Ignoring one would mislead the client, except for hints, which change no answer. Left out:
responses, which are plain dicts (chat_formatters.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

from burnish.feedback.ranges import (
    MAX_CHOICES,
    BestOf,
    Count,
    Few,
    Label,
    Line,
    Many,
    Name,
    Paragraph,
    Positive,
    Seed,
    Text,
    Token,
    Word,
)
from burnish.serving.api.errors import ApiError, from_validation, unsupported
from burnish.serving.engine import SamplingParams, Thinking
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

M = TypeVar("M", bound=BaseModel)

# Known fields that are not supported: the values without effect, and why others are refused.
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((None,), "This model writes text."),
    "echo": ((None, False), "A conversation is not repeated."),
    "function_call": ((None,), "Use tool_choice."),
    "functions": ((None, []), "Use tools."),
    "modalities": ((None, ["text"]), "Only ['text']."),
    "moderation": ((None,), "There is no moderation service here."),
    "suffix": ((None, ""), "Insertion is not implemented."),
    "web_search_options": ((None,), "There is no web search."),
}  # fmt: skip


class Edge(BaseModel):
    """What comes in: an unknown field is refused by name."""

    model_config = ConfigDict(extra="forbid")


class StreamOptions(Edge):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class CacheControl(Edge):
    """Where a prefix worth keeping ends (Anthropic's hint). Every prefix is kept as long as it can."""

    type: Literal["ephemeral"]
    ttl: Word | None = None


class TextPart(Edge):
    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None


class Prediction(Edge):
    """Text that the answer may repeat. Drafts are found in the prompt and the answer instead."""

    type: Literal["content"]
    content: Text | Many[TextPart]


class Hints(Edge):
    """What may make an answer cheaper or quicker elsewhere. Checked, and without effect here: equal
    beginnings are cached anyway, and there is one tier."""

    prediction: Prediction | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Word | None = None
    safety_identifier: Label | None = None
    service_tier: Word | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Generate(Hints):
    """What both endpoints share: who asks, which policy, how to sample."""

    model: Label
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    seed: Seed | None = None
    stop: Line | Few[Line] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: Count = 0
    min_p: float = Field(default=0.0, ge=0, le=1)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    logit_bias: dict[Token, Annotated[float, Field(ge=-100, le=100)]] = {}
    max_tokens: Positive | None = None
    timeout: float | None = Field(default=None, gt=0, le=86400)  # seconds; then what there is
    logprobs_mode: Literal["raw", "processed"] = "raw"
    user: Label | None = None
    store: bool = True  # false: not recorded, and so not learnt from
    metadata: dict[Word, Line] = Field(default={}, max_length=64)

    @model_validator(mode="before")
    @classmethod
    def _only_what_we_do(cls, data: Any) -> Any:
        refused = {name: told for name, told in _REFUSED.items() if name not in cls.model_fields}
        return without_refused(data, refused)

    @field_validator("top_k", mode="before")
    @classmethod
    def _all_of_them(cls, top_k: Any) -> Any:
        return 0 if top_k == -1 else top_k  # vLLM's way of saying it

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 16 or not all(stops):
            raise ValueError("at most 16 stop strings, none of them empty")
        return stop

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Generate:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        return self

    def sampling(
        self,
        *,
        top: int,
        max_tokens: int,
        prompt_logprobs: int | None = None,
        grammar: str = "",
        close_at_limit: bool = True,
        thinking: Thinking | None = None,
    ) -> SamplingParams:
        """The engine's parameters; `top` alternatives per token."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            max_tokens=max_tokens,
            stop=stops,
            logprobs=top,
            logprobs_mode=self.logprobs_mode,
            prompt_logprobs=prompt_logprobs,
            logit_bias=self.logit_bias,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            grammar=grammar,
            close_at_limit=close_at_limit,
            thinking=thinking,
        )

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ValidationRefusal(ValueError):
    """Carries an ApiError through pydantic, which passes on only ValueErrors."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.api_error = error


def without_refused(data: Any, refused: Mapping[str, tuple[tuple[Any, ...], str]]) -> Any:
    """A body without the known fields that are not supported, and without nulls, which mean "not
    given" in these APIs. Raises ValidationRefusal where one has an effect; `refused`: field -> the
    values without, and why others are refused."""
    if not isinstance(data, dict):
        return data
    for name, (harmless, why) in refused.items():
        if name in data and data[name] not in harmless:
            raise ValidationRefusal(unsupported(name, why))
    return {k: v for k, v in data.items() if k not in refused and v is not None}


def check_text_only(pieces: Any, readable: Collection[str], code: str) -> None:
    """Refuse what a list of pieces, if it is one, holds beside text, by the kind that it calls itself."""
    for piece in pieces if isinstance(pieces, list) else ():
        kind = piece.get("type") if isinstance(piece, dict) else type(piece).__name__
        if kind not in readable:
            message = f"'{kind}' was sent; this model reads text."
            raise ValidationRefusal(ApiError(400, message, code=code))


def made_of(shape: type[M], names: Mapping[str, str], **fields: Any) -> M:
    """A request made of another one's fields. Raises ApiError, in that one's `names`."""
    try:
        return shape(**fields)
    except ValidationError as error:
        raise from_validation(error.errors()).renamed(names) from error


class FunctionCall(Edge):
    name: Label
    arguments: Text


class ToolCall(Edge):
    index: Count | None = None  # as pieces of a stream have it
    id: Label
    type: Literal["function"] = "function"
    function: FunctionCall


_UNSAID: Any = {
    "annotations": True,
    "cache_control": True,
    "content": {"__all__": {"cache_control"}},
    "id": True,
    "refusal": True,
    "tool_calls": {"__all__": {"index"}},
}


class Message(Edge):
    """One message. Clients send whole answers back: `reasoning`, ids and hints are not read."""

    id: Label | None = None
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Many[TextPart] | None = None
    name: Label | None = None
    tool_calls: Few[ToolCall] | None = None
    tool_call_id: Label | None = None
    refusal: Text | None = None
    reasoning: Text | None = None
    reasoning_content: Text | None = None
    annotations: Many[Any] | None = None
    audio: None = None
    function_call: None = None
    cache_control: CacheControl | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _text_only(cls, content: Any) -> Any:
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            if kind != "text":
                why = f"A content part of type '{kind}' was sent; this model reads text."
                raise ValidationRefusal(unsupported("messages.content", why))
        return content

    @model_validator(mode="after")
    def _whole(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role '{self.role}' needs content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only assistant messages carry tool_calls")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a tool message needs the tool_call_id it answers")
        return self

    def plain(self) -> dict[str, Any]:
        """As recorded and as templates read it: what was sent, without hints and empty fields."""
        said = self.model_dump(exclude_none=True, exclude=_UNSAID)
        if self.content is None and not self.tool_calls:
            said["content"] = ""  # templates read it of all but calls
        return said


class FunctionSpec(Edge):
    name: Word = Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")
    description: Paragraph | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Edge):
    type: Literal["function"]
    function: FunctionSpec
    cache_control: CacheControl | None = None


class NamedFunction(Edge):
    name: Word


class NamedTool(Edge):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Edge):
    """`schema` is a JSON Schema. Following it is all that `strict` could ask for."""

    name: Word = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: Paragraph | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Edge):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_there_is_one(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to type 'json_schema', and to no other")
        return self


class ChatRequest(Generate):
    messages: Many[Message] = Field(min_length=1)
    max_completion_tokens: Positive | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)
    tools: Few[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    best_of: BestOf | None = None  # candidates, of which n are chosen
    close_at_limit: bool = True  # whether JSON is ended where max_tokens would cut it
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking_token_budget: Count | None = None
    session_id: Name | None = None
    session_history: Literal["whole"] | None = None  # `messages` are all of the session's
    chat_template_kwargs: dict[Word, Any] = Field(default={}, max_length=64)
    add_generation_prompt: bool = True
    continue_final_message: bool = False

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _a_choice(cls, choice: Any) -> Any:
        if isinstance(choice, str) and choice not in ("auto", "none", "required"):
            raise ValueError("'auto', 'none', 'required', or the function to call")
        return choice

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.thinking_token_budget is not None and not self.thinks:
            raise ValueError("thinking_token_budget needs a reasoning_effort that thinks")
        if self.session_history and self.session_id is None:
            raise ValueError("session_history needs a session_id")
        if self.tool_choice and not self.tools:
            raise ValueError("tool_choice is only allowed with tools")
        if self.continue_final_message:
            last = self.messages[-1]
            if last.role != "assistant" or not last.content or last.tool_calls:
                raise ValueError("continue_final_message needs a last message of the assistant")
            if self.session_id is not None:
                raise ValueError("continue_final_message goes without session_id")
        elif not self.add_generation_prompt:
            raise ValueError("add_generation_prompt: false needs continue_final_message: true")
        if self.reasoning_effort and "enable_thinking" in self.chat_template_kwargs:
            raise ValueError("reasoning_effort or chat_template_kwargs.enable_thinking, not both")
        return self

    @property
    def end_user(self) -> str | None:
        return self.user or self.safety_identifier

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def thinks(self) -> bool:
        if self.reasoning_effort is None:
            return self.chat_template_kwargs.get("enable_thinking") is True
        return self.reasoning_effort not in ("none", "minimal")

    def tools_for_template(self) -> list[dict[str, Any]] | None:
        if not self.tools or self.tool_choice == "none":
            return None
        return [
            tool.model_dump(exclude_none=True, exclude={"cache_control"}) for tool in self.tools
        ]
