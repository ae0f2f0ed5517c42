"""vLLM's documented API in data: a `/v1/completions` body, its stream events, its errors.

Left out: connections (client.py).
"""

from __future__ import annotations

import json
import random
from typing import Any

import httpx2 as httpx
from burnish.serving.engine.detokenizer import IncrementalDetokenizer
from burnish.serving.engine.types import (
    BadGrammar,
    Delta,
    EngineError,
    PromptTooLong,
    QueueFull,
    Request,
    SamplingParams,
    UnknownAdapter,
    Unsupported,
)
from burnish.serving.engine.vllm.errors import ServerLost, ServerStopped

FINISHES = {"stop": "stop", "length": "length", "abort": "cancelled"}


def completion_body(request: Request, max_model_len: int) -> dict[str, Any]:
    """The request's body, without the model's name. Raises PromptTooLong, BadGrammar, Unsupported."""
    max_new_tokens = max_model_len - len(request.prompt_ids)
    if not request.prompt_ids:
        raise PromptTooLong("the prompt is empty")
    if max_new_tokens < 1:
        raise PromptTooLong(
            f"the prompt has {len(request.prompt_ids)} tokens; "
            f"at most {max_model_len - 1} leave room for an answer"
        )
    params = request.params
    seed = random.getrandbits(63) if params.seed is None else params.seed
    body: dict[str, Any] = {
        "prompt": list(request.prompt_ids),
        "stream": True,
        "max_tokens": min(params.max_tokens, max_new_tokens),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "seed": (seed + 2**63) % 2**64 - 2**63,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "repetition_penalty": params.repetition_penalty,  # whatever the model's own config says
        "logprobs": params.logprobs,
        "ignore_eos": params.ignore_eos,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "skip_special_tokens": False,
    }
    if params.logprobs and params.logprobs_mode != "raw":
        raise Unsupported("logprobs_mode", "a vLLM server has one for all, its --logprobs-mode")
    if params.prompt_logprobs is not None:
        raise Unsupported("echo", "log-probabilities of prompts are not asked of a vLLM server")
    if params.thinking is not None and params.thinking.budget is not None:
        body["thinking_token_budget"] = params.thinking.budget
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): value for token, value in params.logit_bias.items()}
    if request.priority:
        body["priority"] = -request.priority  # vLLM runs lower numbers first
    if params.grammar:
        body["structured_outputs"] = _structure(params.grammar)
    return body


def delta_of(
    chunk: dict[str, Any], params: SamplingParams, detokenizer: IncrementalDetokenizer
) -> Delta | None:
    """One event of a stream as a delta; None if it is empty. Raises EngineError if it is incomplete."""
    if not chunk["choices"]:
        return None
    choice = chunk["choices"][0]
    tokens: list[int] = choice.get("token_ids") or []
    finish = choice.get("finish_reason")
    if not tokens and finish is None:
        return None
    if finish is not None and finish not in FINISHES:
        raise EngineError(f"vLLM ended an answer with {finish!r}")
    text, reason = "", None
    for kept, token in enumerate(tokens, start=1):
        piece, stopped = detokenizer.push(token)
        text += piece
        if stopped:
            tokens, reason = tokens[:kept], "stop"
            break
    if reason is None and finish is not None:
        text, reason = text + detokenizer.flush(), FINISHES[finish]
    reported = choice.get("logprobs") or {}
    logprobs = tuple(reported.get("token_logprobs") or ())[: len(tokens)]
    if len(logprobs) != len(tokens):
        raise EngineError("vLLM gave no log-probability for each token")
    tops = (reported.get("top_logprobs") or [])[: len(tokens)]
    return Delta(
        text,
        tuple(tokens),
        logprobs,
        _processed(params, logprobs),
        tuple(_top(one, params.logprobs) for one in tops) if params.logprobs else (),
        reason,
        detokenizer.stopped_by,
    )


def _structure(grammar: str) -> dict[str, Any]:
    """One of llguidance's grammars as vLLM's `structured_outputs`."""
    if grammar.lstrip().startswith("{"):
        try:
            (only,) = json.loads(grammar)["grammars"]
            return {"json": only["json_schema"]}
        except (ValueError, KeyError, TypeError) as error:
            raise BadGrammar("neither Lark nor a JSON Schema") from error
    return {"grammar": grammar}


def _processed(params: SamplingParams, raw: tuple[float, ...]) -> tuple[float, ...]:
    """Log-probabilities under the distribution drawn from, where they follow from the raw ones."""
    if params.temperature == 0:
        return (0.0,) * len(raw)
    changed = (
        params.temperature != 1
        or params.top_p < 1
        or params.top_k
        or params.min_p
        or params.logit_bias
        or params.presence_penalty
        or params.frequency_penalty
        or params.repetition_penalty != 1
        or params.grammar
        or params.thinking
    )
    return () if changed else raw


def _top(alternatives: dict[str, float], wanted: int) -> tuple[tuple[int, float], ...]:
    """vLLM adds the drawn token to the best ones, in no order."""
    pairs = [(int(k.removeprefix("token_id:")), value) for k, value in alternatives.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:wanted])


def message_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"


def refusal(status: int, message: str, body: dict[str, Any]) -> EngineError:
    """The error for a status, or for an error event with that code within a stream."""
    if status == 404:
        return UnknownAdapter(f"vLLM: {message}")
    if status == 429:
        return QueueFull(f"vLLM: {message}")
    if status == 503:
        return ServerStopped(f"vLLM: {message}")
    if status == 400 and "structured_outputs" in body:
        return BadGrammar(f"vLLM: {message}")
    if status == 400 and "maximum context length" in message:
        return PromptTooLong(f"vLLM: {message}")
    kind = ServerLost if status >= 500 else EngineError
    return kind(f"vLLM answered {status}: {message}")
