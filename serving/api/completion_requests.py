"""What clients send to `/v1/completions`, checked field by field. Left out: what it shares with chat."""

from __future__ import annotations

from typing import Any

from burnish.feedback.ranges import MAX_CHOICES, Few, Text, Tokens
from burnish.serving.api.chat_requests import Generate
from pydantic import Field, field_validator, model_validator

Prompt = Text | Tokens


class CompletionRequest(Generate):
    """Each of several prompts is an interaction of its own: its choices name it."""

    prompt: Text | Tokens | Few[Text] | Few[Tokens]
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False  # whether the prompt stands before the answer, its log-probabilities too
    best_of: int | None = Field(default=None, ge=1, le=MAX_CHOICES)  # answers, of which n are told

    @field_validator("prompt")
    @classmethod
    def _something(cls, prompt: Any) -> Any:
        if not all(_prompts(prompt)):
            raise ValueError("an empty prompt has nothing to go on")
        return prompt

    @model_validator(mode="after")
    def _told_at_once(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError("best_of is at least n")
        if self.stream and len(self.prompts) > 1:
            raise ValueError("stream takes one prompt: its events have one id")
        if self.stream and self.answers > self.n:
            raise ValueError("best_of cannot be streamed: the best is known at the end")
        return self

    @property
    def prompts(self) -> list[Prompt]:
        return _prompts(self.prompt)

    @property
    def answers(self) -> int:
        """How many are generated."""
        return self.best_of or self.n


def _prompts(prompt: Any) -> list[Any]:
    several = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)
    return prompt if several else [prompt]
