"""API requests to `GenerationRequest`s: session recalled, prompt rendered, limits checked.

Everything that can be wrong with a request but not with its JSON is found here, before a slot of
the engine is taken. Left out: which policy version answers, and generating (answering.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypedDict, Unpack

from burnish.feedback.ids import new_interaction_id
from burnish.serving.api import chat_memory
from burnish.serving.api.auth import Principal
from burnish.serving.api.chat_memory import Message, Recalled, adopt, event_of, newest, sends_all
from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.chat_template import Prompt, render, text_of, variables_of
from burnish.serving.api.completion_requests import CompletionRequest
from burnish.serving.api.completion_requests import Prompt as CompletionPrompt
from burnish.serving.api.constraints import grammar_of
from burnish.serving.api.errors import ApiError
from burnish.serving.api.generation import GenerationRequest
from burnish.serving.api.off_loop import off_loop, work_of
from burnish.serving.api.service import Service
from burnish.serving.api.thinking import thinking_of

ANSWER_SHARE = 4  # 1/4 of the window is always left for the answer
Recall = Literal["always", "overflow", "never"]
"""When a session's view joins the messages: always, or only in place of what does not fit."""


class How(TypedDict, total=False):
    """What an API besides chat completions says of its requests."""

    id: str  # of the interaction; otherwise a new one
    endpoint: str  # as it is recorded; otherwise "chat"
    recall: Recall  # otherwise "always"
    adopts: bool  # whether the session takes earlier messages too, if it holds nothing
    recorded: bool  # whether a new id is that of a recorded interaction; otherwise it is


async def chat_request(
    service: Service,
    body: ChatRequest,
    who: Principal,
    **how: Unpack[How],
) -> tuple[GenerationRequest, bool]:
    """The request, and whether its answer begins inside the reasoning. Raises ApiError."""
    recall = how.get("recall", "always")
    messages = [message.plain() for message in body.messages]
    tools = body.tools_for_template()
    tokenizer = service.engine.tokenizer
    _check_variables(tokenizer, body.chat_template_kwargs)
    recalled = Recalled(tuple(messages))
    if body.session_id is None and recall == "overflow":
        recalled = Recalled(tuple(await _compacted(service, body, messages, tools)))
    elif body.session_id is not None and service.settings.memory_budget and recall != "never":
        recalled = await _with_session(
            service, body, who, body.session_id, messages, tools, recall == "always"
        )
    prompt = await _render(service, body, recalled.messages, tools)
    _check_fits(service, prompt.ids, "messages")
    _check_bias(service, body.logit_bias)
    max_tokens = _max_tokens(service, body.limit, prompt.ids)
    thinking = thinking_of(body, tokenizer, opened=prompt.in_reasoning, max_tokens=max_tokens)
    schema = body.response_format.model_dump() if body.response_format else None
    grammar = await off_loop(work_of([tools, schema]), lambda: grammar_of(body, tokenizer))
    request = GenerationRequest(
        id=how.get("id")
        or new_interaction_id(
            service.secret, who.tenant, body.n, recorded=how.get("recorded", True)
        ),
        created=int(time.time()),
        model=body.model,
        tenant=who.tenant,
        prompt_ids=prompt.ids,
        params=body.sampling(
            top=body.top_logprobs,
            max_tokens=max_tokens,
            grammar=grammar,
            close_at_limit=body.close_at_limit,
            thinking=thinking if body.thinks else None,
        ),
        n=body.n,
        deadline_s=body.timeout,
        thinking=thinking,
        user=body.end_user,
        session_id=body.session_id,
        session_whole=body.session_history == "whole",
        messages=tuple(messages),
        tools=None if tools is None else tuple(tools),
        memory=recalled.used,
        view_budget=recalled.budget,
        adopts=how.get("adopts", False),
        metadata={
            **body.metadata,
            "endpoint": how.get("endpoint", "chat"),
            "thinking": body.thinks,
        },
        account=who.account,
    )
    return request, prompt.in_reasoning


async def _compacted(
    service: Service,
    body: ChatRequest,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None,
) -> Sequence[Message]:
    """The messages, of those that do not fit the window only what matters most."""
    window = service.engine.max_model_len
    budget = limit = window - min(_requested_tokens(service, body.limit), window // ANSWER_SHARE)
    shown: Sequence[Message] = messages
    while True:
        fits = _certain_characters(shown) <= _most_characters(service)
        over = limit if not fits else len((await _render(service, body, shown, tools)).ids) - limit
        if over <= 0:
            return shown
        if shown is not messages:  # the template's tokens per message are only estimated
            budget -= over
        with chat_memory.as_api_errors("messages"):
            done = await service.memory.compact_messages(list(map(event_of, messages)), budget)
        shown = done["messages"]


async def prompt_tokens(service: Service, body: ChatRequest) -> int:
    """How many tokens the prompt of a request has. Raises ApiError."""
    messages = [message.plain() for message in body.messages]
    return len((await _render(service, body, messages, body.tools_for_template())).ids)


async def _with_session(
    service: Service,
    body: ChatRequest,
    who: Principal,
    session: str,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None,
    always: bool,
) -> Recalled:
    """The messages with what the session adds, unless they fit and `always` is false. Where they exceed
    the model's window, all but the newest are stored in the session, and its view replaces them."""
    if always:
        whole = body.session_history == "whole"
        await chat_memory.take_back(service.memory, who.tenant, session, messages, whole=whole)
    window = service.engine.max_model_len
    requested = _requested_tokens(service, body.limit)
    reserve = min(requested, window // ANSWER_SHARE)

    async def size(messages: Sequence[Message]) -> int:
        return len((await _render(service, body, messages, tools)).ids)

    limit = window - requested
    if _certain_characters(messages) > _most_characters(service):
        free = reserve - requested - 1
    else:
        free = limit - await size(messages)
    budget = min(free, service.settings.memory_budget)
    if free < reserve - requested:
        await adopt(service.memory, who.tenant, session, messages, body.end_user)
        messages = newest(messages)
        limit = window - reserve
        free = budget = limit - await size(messages)
    elif not always or await sends_all(service.memory, who.tenant, session, messages):
        free = 0
    # The template's tokens per message are only estimated; a second pass is rarely needed.
    while free > 0 and budget > 0:
        recalled = await chat_memory.recall(
            service.memory, who.tenant, session, messages, budget=budget, max_budget=free
        )
        over = await size(recalled.messages) - limit
        if over <= 0:
            return recalled
        free, budget = free - over, min(budget, free) - over
    return Recalled(tuple(messages))


async def completion_request(
    service: Service,
    body: CompletionRequest,
    prompt: CompletionPrompt,
    who: Principal,
    *,
    recorded: bool = True,
) -> GenerationRequest:
    """One of the prompts. Raises ApiError."""
    if isinstance(prompt, str):
        text = prompt
        _check_hopeless(service, len(text), "prompt")
        ids = tuple(await off_loop(len(text), lambda: service.engine.tokenizer.encode(text)))
    else:
        ids = tuple(prompt)
        _check_fits(service, ids, "prompt")
        _check_tokens(service, ids, "prompt")
    _check_fits(service, ids, "prompt")
    _check_bias(service, body.logit_bias)
    limit = 16 if body.max_tokens is None else body.max_tokens  # OpenAI's default here
    return GenerationRequest(
        id=new_interaction_id(service.secret, who.tenant, body.answers, recorded=recorded),
        created=int(time.time()),
        model=body.model,
        tenant=who.tenant,
        prompt_ids=ids,
        params=body.sampling(
            top=body.logprobs or 0,
            max_tokens=_max_tokens(service, limit, ids),
            prompt_logprobs=body.logprobs if body.echo else None,
        ),
        n=body.answers,
        deadline_s=body.timeout,
        user=body.user,
        metadata={**body.metadata, "endpoint": "completions"},
        account=who.account,
    )


async def _render(
    service: Service,
    body: ChatRequest,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None,
) -> Prompt:
    """The prompt, tokenised off the loop where it is long and not at all where it cannot fit."""
    _check_hopeless(service, _certain_characters(messages), "messages")
    tokenizer = service.engine.tokenizer
    work = work_of([list(messages), tools])
    return await off_loop(
        work,
        lambda: render(
            tokenizer,
            messages,
            tools,
            body.thinks,
            variables=body.chat_template_kwargs,
            continues=body.continue_final_message,
        ),
    )


def _check_variables(tokenizer: Any, given: Mapping[str, Any]) -> None:
    known = {"enable_thinking"} | (variables_of(tokenizer) if given else frozenset())
    unread = next((name for name in given if name not in known), None)
    if unread is not None:
        message = (
            f"The model's chat template reads no '{unread}'; it reads {', '.join(sorted(known))}."
        )
        param = f"chat_template_kwargs.{unread}"
        raise ApiError(400, message, param=param, code="unknown_parameter")


def _certain_characters(messages: Sequence[Message]) -> int:
    """Of the texts that every template shows; some leave out what an answer thought."""
    return sum(
        len(text_of(message.get("content")).strip())
        for message in messages
        if message["role"] != "assistant"
    )


def _check_hopeless(service: Service, characters: int, param: str) -> None:
    """Refuse a text that exceeds the context whatever its tokens are, before it is tokenised."""
    if characters > _most_characters(service):
        limit = service.engine.max_model_len
        message = (
            f"This model's maximum context length is {limit} tokens; the prompt has"
            f" {characters:,} characters, which is more in any case. Shorten '{param}'."
        )
        raise ApiError(400, message, param=param, code="context_length_exceeded")


def _most_characters(service: Service) -> int:
    """More than any prompt that fits: every token the longest one."""
    return service.engine.max_model_len * _longest_token(service.engine.tokenizer)


@lru_cache(maxsize=4)
def _longest_token(tokenizer: Any) -> int:
    """In characters. Doubled where a normaliser may shorten texts first (NFC, spaces)."""
    longest = max(len(token) for token in tokenizer.get_vocab())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return longest * (1 if getattr(backend, "normalizer", None) is None else 2)


def _requested_tokens(service: Service, limit: int | None) -> int:
    return service.settings.max_tokens if limit is None else limit


def _max_tokens(service: Service, limit: int | None, prompt: Sequence[int]) -> int:
    """The answer's token limit: as requested, and never past the end of the context."""
    return min(_requested_tokens(service, limit), service.engine.max_model_len - len(prompt))


def _check_fits(service: Service, prompt: Sequence[int], param: str) -> None:
    limit = service.engine.max_model_len
    if len(prompt) >= limit:
        message = (
            f"This model's maximum context length is {limit} tokens; the prompt has"
            f" {len(prompt)} tokens, which leaves no room for an answer. Shorten '{param}'."
        )
        raise ApiError(400, message, param=param, code="context_length_exceeded")


def _check_bias(service: Service, bias: dict[int, float]) -> None:
    _check_tokens(service, tuple(bias), "logit_bias")


def _check_tokens(service: Service, tokens: Sequence[int], param: str) -> None:
    size = len(service.engine.tokenizer)
    bad = next((token for token in tokens if not 0 <= token < size), None)
    if bad is not None:
        message = f"Invalid value for '{param}': token {bad} is not in the vocabulary of {size}."
        raise ApiError(400, message, param=param, code="invalid_value")
