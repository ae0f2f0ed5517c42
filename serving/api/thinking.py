"""What `reasoning_effort` means to the engine: the model's markup of thinking, and a budget.

An effort is a share of the answer's token limit, so that some is left for the content; `thinking_token_budget` says a number instead. Left out: markup other than the template's
`<think>...</think>`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from burnish.serving.api.chat_requests import ChatRequest
from burnish.serving.api.chat_template import END_THINK, THINK
from burnish.serving.engine import Thinking
from jinja2 import TemplateError

SHARES = {"low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95}
# Two words that no template contains, to find what it writes between them.
_REASONING, _CONTENT = "qkxthought", "qkxsaid"


def thinking_of(body: ChatRequest, tokenizer: Any, *, opened: bool, max_tokens: int) -> Thinking:
    """How the answer may think within `max_tokens`; `opened`: the prompt ends in `<think>`.

    The markup is there even for a request that asks for no thinking: a model may do so unasked,
    and usage counts it.
    """
    budget = body.thinking_token_budget
    if budget is None and body.thinks:
        budget = int(SHARES[body.reasoning_effort or "medium"] * max_tokens)
    begin, end = (_ids(tokenizer, tag) for tag in (THINK, END_THINK))
    return Thinking(
        open=begin[0] if len(begin) == 1 else None,
        end=end,
        close=_ids(tokenizer, _closing(tokenizer)),
        opened=opened,
        budget=budget,
    )


@lru_cache(maxsize=16)
def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


@lru_cache(maxsize=4)
def _closing(tokenizer: Any) -> str:
    """What the template writes between the reasoning and the content after it."""
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "reasoning_content": _REASONING, "content": _CONTENT},
    ]
    try:
        text = tokenizer.apply_chat_template(messages, tools=None, tokenize=False)
    except (TemplateError, TypeError, ValueError):
        text = ""
    between = text.partition(_REASONING)[2].partition(_CONTENT)[0]
    # Most templates drop earlier reasoning, or have none: then as most models are trained.
    return between if END_THINK in between else f"\n{END_THINK}\n\n"
